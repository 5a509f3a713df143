"""The Temporal client on a real dev server."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from pydantic import BaseModel
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.clients import temporal

pytestmark = pytest.mark.anyio
KEYWORD = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD


class Told(BaseModel):
    words: list[str]


# One server, and so one loop, for the whole module.
@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(anyio_backend: str) -> AsyncIterator[str]:
    binary = Path(sys.executable).with_name("temporal")
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(binary), dev_server_log_level="error"
    ) as environment:
        yield environment.client.service_client.config.target_host


@pytest.fixture
async def client(server: str) -> Client:
    return await temporal.connect(server)


async def attributes(client: Client) -> dict[str, int]:
    request = ListSearchAttributesRequest(namespace=client.namespace)
    return dict((await client.operator_service.list_search_attributes(request)).custom_attributes)


async def test_search_attributes_are_registered_once_and_again(client):
    for _ in range(3):
        await temporal.ensure_search_attributes(client)
    present = await attributes(client)
    assert {name: present[name] for name in temporal.SEARCH_ATTRIBUTES} == dict.fromkeys(
        temporal.SEARCH_ATTRIBUTES, KEYWORD
    )


async def test_search_attributes_are_registered_by_several_at_once(client):
    await asyncio.gather(*(temporal.ensure_search_attributes(client) for _ in range(5)))
    assert set(temporal.SEARCH_ATTRIBUTES) <= set(await attributes(client))


async def test_a_search_attribute_of_another_type_is_named(server):
    namespace = "conflict"
    client = await temporal.connect(server, namespace)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(
            namespace=namespace, workflow_execution_retention_period=Duration(seconds=86400)
        )
    )
    wrong = {"FlowTrackLeadId": IndexedValueType.INDEXED_VALUE_TYPE_INT}
    request = AddSearchAttributesRequest(namespace=namespace, search_attributes=wrong)
    for _ in range(50):  # the server learns of a new namespace after a moment
        try:
            await client.operator_service.add_search_attributes(request)
            break
        except RPCError:
            await asyncio.sleep(0.1)
    with pytest.raises(temporal.SearchAttributeConflict, match="FlowTrackLeadId"):
        await temporal.ensure_search_attributes(client)


async def test_retention_is_raised_and_never_lowered(client):
    async def retention() -> timedelta:
        described = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace)
        )
        kept: timedelta = described.config.workflow_execution_retention_ttl.ToTimedelta()
        return kept

    await temporal.set_retention(client, 30)
    assert await retention() == timedelta(days=30)
    await temporal.set_retention(client, 7)
    assert await retention() == timedelta(days=30)


async def test_payloads_are_pydantic_models(client):
    payloads = await client.data_converter.encode([Told(words=["a"])])
    assert await client.data_converter.decode(payloads, [Told]) == [Told(words=["a"])]


async def test_a_lazy_client_comes_up_without_a_server():
    client = await temporal.connect("127.0.0.1:1", lazy=True)
    with pytest.raises(RuntimeError, match="connect"):
        await temporal.ensure_search_attributes(client)


async def test_an_eager_client_does_not():
    with pytest.raises(RuntimeError, match="connect"):
        await temporal.connect("127.0.0.1:1")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:7233", True),
        ("[::1]:7233", True),
        ("localhost:1", True),
        ("temporal:7233", False),
        ("10.0.0.1:1", False),
    ],
)
def test_only_the_own_machine_is_spoken_to_uncompressed(address, local):
    assert temporal._is_loopback(address) == local
