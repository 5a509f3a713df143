"""What the mirror's tests stand on: a workspace, workers, a follower."""

from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from db.session import Database
from local import temporal
from tests.api.mirror.stage import Doings, Runs, settle, workers


@pytest.fixture
def doings() -> Doings:
    """Give the activities."""
    return Doings()


@pytest.fixture
async def idle(temporal_client: Client, database: Database, task_queue: str, doings: Doings) -> Runs:
    """Start runs that no worker drives yet."""
    return await settle(temporal_client, database, task_queue, doings)


@pytest.fixture
async def runs(idle: Runs) -> AsyncIterator[Runs]:
    """Start runs that workers drive."""
    async with workers(idle.client, idle.task_queue, idle.doings):
        yield idle


@pytest.fixture
async def short_histories() -> AsyncIterator[Client]:
    """Connect to a server of its own that asks for continue-as-new after a few events."""
    setting = "limit.historyCount.suggestContinueAsNew=25"
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal.executable(),
        dev_server_extra_args=["--dynamic-config-value", setting],
        data_converter=pydantic_data_converter,
    ) as environment:
        yield environment.client
