"""What happens to a lead is told to the open runs that wait for it: none too few, and none for nothing."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import doors, leads
from db.models import EventWake, Lead, Workflow, WorkflowExecution, WorkflowVersion
from db.session import Database
from tests.db.conftest import Place, queued

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lead(database: Database, here: Place) -> Lead:
    async with database.workspace(here.workspace_id) as session:
        found = await leads.upsert(
            session, here.workspace_id, workflow_id=here.workflow_id, email="ada@example.com"
        )
    return found.lead


async def version(database: Database, place: Place, *awaits: str) -> UUID:
    """Publish another version, which awaits these types."""
    version_id = uuid7()
    async with database.workspace(place.workspace_id) as session:
        session.add(
            WorkflowVersion(
                workspace_id=place.workspace_id,
                id=version_id,
                workflow_id=place.workflow_id,
                version=2,
                content_hash="1",
                graph={"nodes": [], "edges": []},
                awaits=list(awaits),
            )
        )
    return version_id


async def run(database: Database, place: Place, lead: Lead | None, version_id: UUID, status: str) -> UUID:
    """Keep a run of a version."""
    made = queued(
        place,
        id=uuid7(),
        lead_id=lead.id if lead else None,
        status=status,
        workflow_version_id=version_id,
        dispatched_at=None if status == "queued" else datetime.now(UTC),
    )
    async with database.workspace(place.workspace_id) as session:
        session.add(made)
    return made.id


async def happens(database: Database, place: Place, lead: Lead, type_: str, by: UUID | None = None) -> UUID:
    async with database.workspace(place.workspace_id) as session:
        event = await leads.add_event(session, place.workspace_id, lead.id, type_, execution_id=by)
    return event.id


async def woken(database: Database, place: Place) -> Sequence[UUID]:
    """Name the runs that have wakes, in the order of the wakes."""
    async with database.workspace(place.workspace_id) as session:
        rows = await session.execute(select(EventWake.execution_id).order_by(EventWake.created_at))
        return rows.scalars().all()


async def claimed(database: Database, stale_seconds: float = 60) -> list[doors.Wake]:
    async with database.door() as session:
        return await doors.claim_wakes(session, limit=10, worker="a", stale_seconds=stale_seconds)


async def test_open_runs_of_the_lead_that_await_the_type_are_told_and_no_others(
    database: Database, here: Place, lead: Lead
):
    awaiting = await version(database, here, "PAID", "STATUS_CHANGED")
    open_ = [await run(database, here, lead, awaiting, status) for status in ("running", "waiting", "queued")]
    for status in ("completed", "failed", "cancelled"):
        await run(database, here, lead, awaiting, status)
    await run(database, here, None, awaiting, "running")
    await run(database, here, lead, here.version_id, "running")
    async with database.workspace(here.workspace_id) as session:
        other = await leads.upsert(
            session, here.workspace_id, workflow_id=here.workflow_id, email="b@example.com"
        )

    await happens(database, here, lead, "OPENED")
    await happens(database, here, other.lead, "PAID")
    assert await woken(database, here) == []

    await happens(database, here, lead, "PAID", by=open_[0])
    assert set(await woken(database, here)) == set(open_)


async def test_a_wake_is_held_by_one_carrier_and_goes_when_it_is_done(
    database: Database, second_database: Database, here: Place, lead: Lead
):
    awaiting = await version(database, here, "PAID")
    running = await run(database, here, lead, awaiting, "running")
    await run(database, here, lead, awaiting, "queued")
    event_id = await happens(database, here, lead, "PAID")

    (wake,) = await claimed(database)
    assert (wake.workspace_id, wake.execution_id, wake.event_id, wake.event_type) == (
        here.workspace_id,
        running,
        event_id,
        "PAID",
    )
    assert await claimed(second_database) == []
    assert await claimed(second_database, stale_seconds=0) == [wake]
    async with database.door() as session:
        foreign = replace(wake, workspace_id=uuid7())
        assert await doors.end_wakes(session, [foreign]) == 0
        assert await doors.end_wakes(session, [wake, replace(wake, id=uuid7())]) == 1
    # Temporal does not have the other run yet: its wake stays.
    assert await claimed(second_database, stale_seconds=0) == []
    assert len(await woken(database, here)) == 1


async def test_a_wake_is_undone_with_its_cause(database: Database, here: Place, lead: Lead):
    await run(database, here, lead, await version(database, here, "PAID"), "running")
    async with database.workspace(here.workspace_id) as session:
        await leads.add_event(session, here.workspace_id, lead.id, "PAID")
        assert (await session.execute(select(EventWake))).scalars().all() != []
        await session.rollback()
    assert await woken(database, here) == []


async def test_an_event_that_a_look_came_too_early_for_still_wakes(
    database: Database, second_database: Database, here: Place, lead: Lead
):
    began = datetime.now(UTC)
    running = await run(database, here, lead, await version(database, here, "PAID"), "running")

    async def look(session: AsyncSession) -> int:
        found = await leads.events_since(session, here.workspace_id, lead.id, types=["PAID"], since=began)
        return len(found)

    async with database.workspace(here.workspace_id) as session:
        await leads.add_event(session, here.workspace_id, lead.id, "PAID")
        async with second_database.workspace(here.workspace_id) as beside:
            assert await look(beside) == 0
        assert await claimed(second_database) == []
    (wake,) = await claimed(second_database)
    assert wake.execution_id == running
    async with second_database.workspace(here.workspace_id) as beside:
        assert await look(beside) == 1


async def test_an_event_that_a_queued_run_came_too_late_for_happened_before_it(
    database: Database, second_database: Database, here: Place, lead: Lead
):
    awaiting = await version(database, here, "PAID")
    async with database.workspace(here.workspace_id) as session:
        session.add(
            WorkflowExecution(
                workspace_id=here.workspace_id,
                id=uuid7(),
                workflow_id=here.workflow_id,
                workflow_version_id=awaiting,
                lead_id=lead.id,
                trigger_type="API",
            )
        )
        await session.flush()
        await happens(second_database, here, lead, "PAID")
    began = datetime.now(UTC)
    assert await woken(database, here) == []
    async with database.workspace(here.workspace_id) as session:
        found = await leads.events_since(session, here.workspace_id, lead.id, types=["PAID"], since=began)
    assert found == []


async def test_what_brought_a_run_in_is_no_news_to_it(database: Database, here: Place, lead: Lead):
    awaiting = await version(database, here, "FORM_SUBMITTED")
    made = queued(here, id=uuid7(), lead_id=lead.id, workflow_version_id=awaiting)
    async with database.workspace(here.workspace_id) as session:
        session.add(made)
        await session.flush()
        await leads.add_event(session, here.workspace_id, lead.id, "FORM_SUBMITTED", execution_id=made.id)
    assert await woken(database, here) == []
    # Its second submission is.
    await happens(database, here, lead, "FORM_SUBMITTED")
    assert await woken(database, here) == [made.id]


async def test_a_workflow_is_deleted_with_its_wakes(database: Database, here: Place, lead: Lead):
    await run(database, here, lead, await version(database, here, "PAID"), "running")
    await happens(database, here, lead, "PAID")
    async with database.workspace(here.workspace_id) as session:
        workflow = await session.get_one(Workflow, here.workflow_id)
        await session.delete(workflow)
    assert await woken(database, here) == []
