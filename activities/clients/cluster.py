"""What Temporal tells of itself: version, namespaces, attributes, who polls, which jobs are scheduled."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    GetSystemInfoRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.clients.temporal import RPC_TIMEOUT, SEARCH_ATTRIBUTES
from workflows.upkeep import JOBS

POLLED_WITHIN = timedelta(seconds=75)
"""A worker with a free slot asks for work at least once a minute (the server's long poll)."""
KINDS = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)


@dataclass(frozen=True)
class Upkeep:
    """Which upkeep jobs are not scheduled, and which somebody has paused."""

    missing: list[str]
    paused: list[str]


async def version(client: Client) -> str:
    """Name the server's version. Raises RPCError or RuntimeError in an outage, as all here."""
    info = await client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=RPC_TIMEOUT)
    return info.server_version


async def retention(client: Client) -> timedelta | None:
    """Tell how long closed runs of the client's namespace stay; None if there is no such namespace."""
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        found = await client.workflow_service.describe_namespace(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        raise
    kept: timedelta = found.config.workflow_execution_retention_ttl.ToTimedelta()
    return kept


async def missing_attributes(client: Client) -> list[str]:
    """Name the search attributes that our runs need and the namespace lacks."""
    request = ListSearchAttributesRequest(namespace=client.namespace)
    found = await client.operator_service.list_search_attributes(request, timeout=RPC_TIMEOUT)
    return [name for name in SEARCH_ATTRIBUTES if name not in found.custom_attributes]


async def polls(client: Client, queue: str, kind: "TaskQueueType.ValueType") -> datetime | None:
    """Tell when a worker asked for this kind of task last, by the server's clock; None if none did lately."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
    )
    answer = await client.workflow_service.describe_task_queue(request, timeout=RPC_TIMEOUT)
    times = [each.last_access_time.ToDatetime(tzinfo=UTC) for each in answer.pollers]
    since = datetime.now(UTC) - POLLED_WITHIN
    return max((at for at in times if at > since), default=None)


async def upkeep(client: Client) -> Upkeep:
    """Look for the schedules of the upkeep jobs."""
    missing, paused = [], []
    for job in JOBS:
        try:
            found = await client.get_schedule_handle(f"upkeep-{job}").describe(rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            missing.append(job)
        else:
            paused += [job] if found.schedule.state.paused else []
    return Upkeep(missing, paused)
