"""What the database's tests build on: two workspaces with a row in every table."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
import pytest
from uuid_utils.compat import uuid7

from db import doors
from db.models import Workflow, WorkflowExecution, WorkflowVersion
from db.session import Database
from local.postgres import plain

TODAY = date(2026, 1, 31)
Superuser = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


@dataclass(frozen=True)
class Place:
    """A workspace with one published workflow."""

    workspace_id: UUID
    user_id: UUID
    workflow_id: UUID
    version_id: UUID
    slug: str


async def settle(database: Database, slug: str, *, plan: str = "free") -> Place:
    """Sign a workspace up and publish one workflow in it."""
    async with database.door() as session:
        made = await doors.create_workspace(
            session, email=f"{slug}@example.com", name=slug.title(), slug=slug, today=TODAY, plan_slug=plan
        )
    workflow_id, version_id = uuid7(), uuid7()
    async with database.workspace(made.workspace_id) as session:
        key = {"workspace_id": made.workspace_id}
        workflow = Workflow(**key, id=workflow_id, name="Intake", slug="intake", status="active")
        session.add(workflow)
        await session.flush()
        session.add(
            WorkflowVersion(
                **key,
                id=version_id,
                workflow_id=workflow_id,
                version=1,
                content_hash="0",
                graph={"nodes": [], "edges": []},
            )
        )
        await session.flush()
        workflow.published_version_id = version_id
    return Place(made.workspace_id, made.user_id, workflow_id, version_id, slug)


def queued(place: Place, **values: Any) -> WorkflowExecution:
    """Build a queued execution of the place's workflow."""
    return WorkflowExecution(
        workspace_id=place.workspace_id,
        workflow_id=place.workflow_id,
        **{"workflow_version_id": place.version_id, "trigger_type": "FORM", **values},
    )


@pytest.fixture
async def here(database: Database) -> Place:
    """Settle the workspace that the test is about."""
    return await settle(database, "here")


@pytest.fixture
async def there(database: Database) -> Place:
    """Settle another workspace, whose rows must stay out of reach."""
    return await settle(database, "there")


@pytest.fixture
def superuser(admin_url: str) -> Superuser:
    """Open connections that bypass row-level security, to look at what really is there."""

    @contextmanager
    def connect() -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(plain(admin_url)) as connection:
            yield connection

    return connect


@pytest.fixture
async def second_database(database_url: str) -> AsyncIterator[Database]:
    """Open the test's database a second time, as another process would."""
    opened = Database(database_url)
    yield opened
    await opened.close()
