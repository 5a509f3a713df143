"""What the mirror's tests stand on: a workspace, workers, a follower."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from temporalio.client import Client
from uuid_utils.compat import uuid7

from api.mirror.follower import Follower
from api.mirror.history import Histories
from db import doors
from db.models import Workflow, WorkflowVersion
from db.session import Database
from tests.api.mirror.stage import Doings, Runs, workers


@pytest.fixture
def doings() -> Doings:
    """Give the activities."""
    return Doings()


@pytest.fixture
async def place(database: Database) -> tuple[UUID, UUID, UUID]:
    """Settle a workspace with one published workflow."""
    async with database.door() as session:
        made = await doors.create_workspace(
            session, email="here@example.com", name="Here", slug="here", today=datetime.now(UTC).date()
        )
    workflow_id, version_id = uuid7(), uuid7()
    key = {"workspace_id": made.workspace_id}
    async with database.workspace(made.workspace_id) as session:
        session.add(Workflow(**key, id=workflow_id, name="Intake", slug="intake", status="active"))
        await session.flush()
        session.add(
            WorkflowVersion(
                **key, id=version_id, workflow_id=workflow_id, version=1, content_hash="0", graph={}
            )
        )
    return made.workspace_id, workflow_id, version_id


@pytest.fixture
async def idle(
    temporal_client: Client,
    database: Database,
    task_queue: str,
    place: tuple[UUID, UUID, UUID],
    doings: Doings,
) -> Runs:
    """Start runs that no worker drives yet."""
    follower = Follower(Histories(temporal_client), database)
    return Runs(temporal_client, database, task_queue, *place, doings, follower)


@pytest.fixture
async def runs(idle: Runs) -> AsyncIterator[Runs]:
    """Start runs that workers drive."""
    async with workers(idle.client, idle.task_queue, idle.doings):
        yield idle
