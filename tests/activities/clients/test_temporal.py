"""The Temporal client on a real dev server."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from activities.clients import temporal

pytestmark = pytest.mark.anyio


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


async def test_payloads_are_pydantic_models(client):
    payloads = await client.data_converter.encode([Told(words=["a"])])
    assert await client.data_converter.decode(payloads, [Told]) == [Told(words=["a"])]


async def test_a_lazy_client_comes_up_without_a_server():
    client = await temporal.connect("127.0.0.1:1", lazy=True)
    with pytest.raises(RuntimeError, match="connect"):
        await temporal.builds(client)


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
