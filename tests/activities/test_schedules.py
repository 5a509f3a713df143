"""Schedules on real servers: in line with the rows, and the runs that a time queues, once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from temporalio.client import Client, ScheduleOverlapPolicy
from temporalio.exceptions import ApplicationError
from uuid_utils.compat import uuid7

from activities.clients import schedules as arranged
from activities.schedules import Schedules
from db import doors, leads, versions, workflows
from db.session import Database
from workflows.graph import Graph, Node
from workflows.messages import ScheduledBatch, ScheduledInput

pytestmark = pytest.mark.anyio

DUE = datetime(2026, 3, 2, 9, tzinfo=UTC)
WEEKDAYS = {"cron": "0 9 * * MON-FRI"}


class Outside:
    """As much of the world as schedules touch."""

    def __init__(self, database: Database, temporal: Client, task_queue: str) -> None:
        self.database = database
        self.temporal = temporal
        self.task_queue = task_queue


@pytest.fixture
async def workspace_id(database: Database) -> UUID:
    async with database.door() as session:
        made = await doors.create_workspace(
            session,
            email="o@a.example",
            name="A",
            slug="a",
            today=DUE.date(),
            timezone="America/New_York",
        )
    return made.workspace_id


@pytest.fixture
async def schedules(database: Database, temporal_client: Client, task_queue: str) -> AsyncIterator[Schedules]:
    made = Schedules(Outside(database, temporal_client, task_queue))  # type: ignore[arg-type] # three of its parts
    yield made
    for name in await present(temporal_client, task_queue):
        await temporal_client.get_schedule_handle(name).delete()


async def present(client: Client, task_queue: str) -> list[str]:
    """List the schedules of this test."""
    listed = [entry async for entry in await client.list_schedules()]
    return sorted(
        [entry.id for entry in listed if await entry.memo_value(arranged.QUEUE, None) == task_queue]
    )


async def publish(database: Database, workspace_id: UUID, config: dict[str, Any], **known: Any) -> UUID:
    """Publish a workflow with this schedule."""
    async with database.workspace(workspace_id) as session:
        workflow_id: UUID = known.get("id") or (await workflows.create(session, workspace_id, name="W")).id
        row = await workflows.get(session, workspace_id, workflow_id)
        assert row is not None
        graph = Graph(nodes=(Node(id="t", type="TRIGGER_SCHEDULE", config=config),), edges=())
        await versions.publish(session, workspace_id, workflow_id, graph, graph_version=row.graph_version)
    return workflow_id


async def move(database: Database, workspace_id: UUID, workflow_id: UUID, status: workflows.Status) -> None:
    async with database.workspace(workspace_id) as session:
        await workflows.move(session, workspace_id, workflow_id, status)


async def runs(database: Database, workspace_id: UUID) -> list[Any]:
    async with database.workspace(workspace_id) as session:
        query = "SELECT lead_id, idempotency_key, trigger_type FROM workflow_executions ORDER BY id"
        return [tuple(row) for row in (await session.execute(text(query))).all()]


async def people(
    database: Database, workspace_id: UUID, workflow_id: UUID, number: int, *, first: int = 0
) -> list[UUID]:
    async with database.workspace(workspace_id) as session:
        made = [
            await leads.upsert(session, workspace_id, workflow_id=workflow_id, email=f"{n}@a.example")
            for n in range(first, first + number)
        ]
    return [one.lead.id for one in made]


async def until_listed(client: Client, task_queue: str, names: list[str]) -> None:
    """Wait for the listing, which follows a little later."""
    async with asyncio.timeout(20):
        while await present(client, task_queue) != sorted(names):
            await asyncio.sleep(0.1)


async def test_reconciling_makes_changes_pauses_and_ends_schedules(
    database, workspace_id, schedules: Schedules, temporal_client: Client, task_queue
):
    workflow_id = await publish(database, workspace_id, WEEKDAYS)
    name = arranged.name_of(workflow_id)
    assert await schedules.arrange_schedules() == {"put": 1, "deleted": 0}
    await until_listed(temporal_client, task_queue, [name])
    described = (await temporal_client.get_schedule_handle(name).describe()).schedule
    assert described.spec.time_zone_name == "America/New_York"
    assert described.policy.overlap == ScheduleOverlapPolicy.SKIP
    assert not described.state.paused
    assert await schedules.arrange_schedules() == {"put": 0, "deleted": 0}

    zone = {**WEEKDAYS, "timezone": "Asia/Tokyo", "overlap": "buffer_one", "catchupSeconds": 600}
    await publish(database, workspace_id, zone, id=workflow_id)
    await move(database, workspace_id, workflow_id, "paused")
    assert await schedules.arrange_schedules() == {"put": 1, "deleted": 0}
    described = (await temporal_client.get_schedule_handle(name).describe()).schedule
    assert described.spec.time_zone_name == "Asia/Tokyo"
    assert described.policy.overlap == ScheduleOverlapPolicy.BUFFER_ONE
    assert described.policy.catchup_window == timedelta(minutes=10)
    assert described.state.paused

    await move(database, workspace_id, workflow_id, "archived")
    async with asyncio.timeout(20):
        while (await schedules.arrange_schedules())["deleted"]:
            await asyncio.sleep(0.1)
    await until_listed(temporal_client, task_queue, [])


async def test_nine_o_clock_stays_nine_o_clock_across_the_change_of_the_clocks(
    database, workspace_id, schedules: Schedules, temporal_client: Client
):
    workflow_id = await publish(database, workspace_id, {"cron": "0 9 * * *", "timezone": "Europe/Berlin"})
    await schedules.arrange_schedules()
    handle = temporal_client.get_schedule_handle(arranged.name_of(workflow_id))
    times = (await handle.describe()).info.next_action_times
    assert times
    from_berlin = {time.astimezone(ZoneInfo("Europe/Berlin")).hour for time in times}
    assert from_berlin == {9}


async def test_a_time_queues_one_run_however_often_it_is_tried(database, workspace_id, schedules: Schedules):
    workflow_id = await publish(database, workspace_id, WEEKDAYS)
    given = ScheduledBatch(workspace_id=workspace_id, workflow_id=workflow_id, due=DUE)
    done = await asyncio.gather(*(schedules.queue_scheduled_runs(given) for _ in range(5)))
    assert sum(one.queued for one in done) == 1
    assert await runs(database, workspace_id) == [(None, "2026-03-02T09:00:00+00:00", "SCHEDULE")]
    async with database.workspace(workspace_id) as session:
        assert (await session.execute(text("SELECT count(*) FROM usage_events"))).scalar_one() == 1


@pytest.mark.parametrize(("overlap", "number"), [("skip", 1), ("allow_all", 2)])
async def test_a_time_during_an_open_run_follows_the_policy(
    overlap: str, number: int, *, database, workspace_id, schedules: Schedules
):
    workflow_id = await publish(database, workspace_id, {**WEEKDAYS, "overlap": overlap})
    place = {"workspace_id": workspace_id, "workflow_id": workflow_id}
    for day in range(2):
        await schedules.queue_scheduled_runs(ScheduledBatch(**place, due=DUE + timedelta(days=day)))
    assert len(await runs(database, workspace_id)) == number


async def test_a_buffered_time_waits_for_the_last_run(database, workspace_id, schedules: Schedules):
    workflow_id = await publish(database, workspace_id, {**WEEKDAYS, "overlap": "buffer_one"})
    place = {"workspace_id": workspace_id, "workflow_id": workflow_id}
    given = ScheduledInput(**place, overlap="buffer_one")
    await schedules.await_scheduled_runs(given)
    await schedules.queue_scheduled_runs(ScheduledBatch(**place, due=DUE))
    with pytest.raises(ApplicationError, match="still open"):
        await schedules.await_scheduled_runs(given)
    async with database.workspace(workspace_id) as session:
        await session.execute(text("UPDATE workflow_executions SET status = 'completed'"))
    await schedules.await_scheduled_runs(given)


async def test_each_lead_that_fits_gets_a_run_in_batches(database, workspace_id, schedules: Schedules):
    rule = {"none": [{"field": "lead.email", "operator": "starts_with", "value": "0"}]}
    config = {**WEEKDAYS, "leadQuery": {"status": ["NEW"], "filter": rule}, "batchSize": 2}
    workflow_id = await publish(database, workspace_id, config)
    found = await people(database, workspace_id, workflow_id, 6)
    async with database.workspace(workspace_id) as session:
        await leads.set_status(session, workspace_id, found[1], "WON")
        await leads.remove(session, workspace_id, found[2])
    after, counts = None, []
    for _ in range(2):
        while True:
            given = ScheduledBatch(workspace_id=workspace_id, workflow_id=workflow_id, due=DUE, after=after)
            done = await schedules.queue_scheduled_runs(given)
            counts.append(done.queued)
            after = done.after
            if after is None:
                break
    assert counts == [1, 2, 0, 0, 0, 0]
    expected = [(one, f"2026-03-02T09:00:00+00:00:{one}", "SCHEDULE") for one in found[3:]]
    assert await runs(database, workspace_id) == expected
    # The next day's leads still have their open runs, and are skipped one by one.
    tomorrow = DUE + timedelta(days=1)
    (newcomer,) = await people(database, workspace_id, workflow_id, 1, first=9)
    given = ScheduledBatch(workspace_id=workspace_id, workflow_id=workflow_id, due=tomorrow)
    assert (await schedules.queue_scheduled_runs(given)).queued == 1
    assert (await runs(database, workspace_id))[-1][0] == newcomer


@pytest.mark.parametrize("status", ["paused", "archived"])
async def test_a_workflow_that_is_not_active_queues_nothing(
    status: workflows.Status, *, database, workspace_id, schedules: Schedules
):
    workflow_id = await publish(database, workspace_id, WEEKDAYS)
    await move(database, workspace_id, workflow_id, status)
    for known in (workflow_id, uuid7()):
        given = ScheduledBatch(workspace_id=workspace_id, workflow_id=known, due=DUE)
        assert (await schedules.queue_scheduled_runs(given)).queued == 0
    assert await runs(database, workspace_id) == []
