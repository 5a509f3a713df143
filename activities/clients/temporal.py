"""Connecting to Temporal, what FlowTrack's runs are searched by, and the builds of its workers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address

from temporalio.api.enums.v1 import VersionDrainageStatus
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client, Interceptor
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.runtime import Runtime
from temporalio.service import GrpcCompression, RPCError, RPCStatusCode, TLSConfig

SEARCH_ATTRIBUTES = (
    "FlowTrackWorkspaceId",
    "FlowTrackWorkflowId",
    "FlowTrackLeadId",
    "FlowTrackTrigger",
)
# A connected client whose server went away would block for six seconds without one.
RPC_TIMEOUT = timedelta(seconds=5)
DEPLOYMENT = "flowtrack"
"""The name under which Temporal knows the builds of our workers."""
PLAIN: DataConverter = pydantic_data_converter
"""For a client that reads and writes no payload; those that do take `payloads.converter`."""
DRAINAGE = {
    VersionDrainageStatus.VERSION_DRAINAGE_STATUS_DRAINING: "draining",
    VersionDrainageStatus.VERSION_DRAINAGE_STATUS_DRAINED: "drained",
}


async def connect(
    address: str,
    namespace: str = "default",
    *,
    lazy: bool = False,
    tls: bool | TLSConfig | None = None,
    api_key: str | None = None,
    interceptors: Sequence[Interceptor] = (),
    data_converter: DataConverter = PLAIN,
    runtime: Runtime | None = None,
    identity: str | None = None,
) -> Client:
    """Connect to a namespace; a lazy client comes up while the server is down, but runs no worker."""
    return await Client.connect(
        address,
        namespace=namespace,
        lazy=lazy,
        tls=tls,
        api_key=api_key,
        interceptors=interceptors,
        data_converter=data_converter,
        runtime=runtime,
        identity=identity,
        # Between processes of one machine compression costs time and saves nothing.
        grpc_compression=GrpcCompression.NONE if _is_loopback(address) else GrpcCompression.GZIP,
    )


@dataclass(frozen=True)
class Builds:
    """What Temporal knows of the builds of our workers."""

    current: str
    """The one that new runs go to; empty: workers without a build."""
    others: Mapping[str, str]
    """Each other to `draining` while it has open runs, `drained` afterwards, `inactive` before it had any."""


async def builds(client: Client) -> Builds:
    """Ask which build is current and which others still have runs."""
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=DEPLOYMENT)
    try:
        found = await client.workflow_service.describe_worker_deployment(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return Builds("", {})
        raise
    info = found.worker_deployment_info
    current = info.routing_config.current_deployment_version.build_id
    listed = {each.deployment_version.build_id: each.drainage_status for each in info.version_summaries}
    return Builds(
        current, {name: DRAINAGE.get(how, "inactive") for name, how in listed.items() if name != current}
    )


async def make_current(client: Client, build_id: str, *, patience: float = 60) -> None:
    """Send new runs to a build, once its workers are known; an empty one means workers without a build.

    Raises RPCError when Temporal does not know the build in time, or its workers do not serve every queue.
    """
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=DEPLOYMENT, build_id=build_id
    )
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            await client.workflow_service.set_worker_deployment_current_version(request, timeout=RPC_TIMEOUT)
        except RPCError as error:
            is_early = error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)
            if not is_early or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.5)
        else:
            return


async def has_namespace(client: Client) -> bool:
    """Tell whether the client's namespace exists."""
    try:
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace), timeout=RPC_TIMEOUT
        )
    except RPCError as error:
        if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.PERMISSION_DENIED):
            return False
        raise
    return True


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
