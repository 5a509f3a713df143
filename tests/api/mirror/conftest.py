"""What the mirror's tests stand on: a workspace, workers, a follower."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from api.mirror.follower import Follower
from api.mirror.history import Histories
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
    async with server("limit.historyCount.suggestContinueAsNew=25") as client:
        yield client


@pytest.fixture
async def quick_to_forget() -> AsyncIterator[Client]:
    """Connect to a server of its own that deletes closed runs at once; others take half a minute."""
    queues = ("transfer", "visibility")
    async with server(*(f'history.{queue}ProcessorUpdateAckInterval="100ms"' for queue in queues)) as client:
        yield client


@asynccontextmanager
async def server(*settings: str) -> AsyncIterator[Client]:
    """Run a server of its own with dynamic configuration."""
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal.executable(),
        dev_server_extra_args=[part for one in settings for part in ("--dynamic-config-value", one)],
        data_converter=pydantic_data_converter,
    ) as environment:
        yield environment.client


@pytest.fixture
async def forgettable(quick_to_forget: Client, idle: Runs) -> AsyncIterator[Runs]:
    """Start runs that workers drive and that can be deleted from Temporal."""
    follower = Follower(Histories(quick_to_forget), idle.database)
    runs = replace(idle, client=quick_to_forget, follower=follower)
    async with workers(runs.client, runs.task_queue, runs.doings):
        yield runs
