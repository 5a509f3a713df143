"""Closes that Temporal tells of: whoever ended the run, the rows show it without hint and sweep."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle

from activities.clients.callbacks import Callbacks
from api.app import Config, create_app
from api.mirror.mirror import Mirror
from api.mirror.pace import Pace
from local.temporal import run as temporal_command
from tests.api.conftest import KEY, Recorder
from tests.api.mirror.stage import START, Runs, graph, id_of, node, reset, until
from tests.api.mirror.test_mirror import LINE, SLEEPER, becomes, mirroring
from tests.serving import served
from workflows.graph import Graph

pytestmark = pytest.mark.anyio

Handle = WorkflowHandle[Any, Any]
SOON = timedelta(seconds=2)
SLOW = Pace(sweep=60, started=0.05)
"""With a sweep that comes too late for any test."""
NAPPER = graph(START, node("a", does={"sleeps": 1}), edges=["start>a"])
ENDS = {
    "completed": ("completed", None),
    "failed": ("failed", "node_failed"),
    "cancelled": ("cancelled", "cancelled"),
    "terminated": ("failed", "terminated"),
    "timed_out": ("failed", "timed_out"),
}


@dataclass
class Told:
    """Runs whose closes Temporal tells of; nothing else tells anything."""

    runs: Runs
    mirrors: list[Mirror]

    async def left(self, drawn: Graph, **more: Any) -> Handle:
        """Start a run that all mirrors leave out of sight."""
        handle = await self.runs.start(drawn, **more)
        for mirror in self.mirrors:
            mirror.expect(id_of(handle))

        async def out_of_sight() -> bool:
            return not any(id_of(handle) in mirror._watches for mirror in self.mirrors)

        await until(out_of_sight)
        return handle

    async def end(self, handle: Handle) -> None:
        """End a run, and wait until it was told of: the server that hears it is about to go."""
        await self.runs.client.get_workflow_handle(handle.id).terminate()
        await becomes(self.runs, handle, "failed")


@pytest.fixture
async def told(runs: Runs, database_url: str) -> AsyncIterator[Told]:
    """Serve two replicas' addresses of the API."""
    async with AsyncExitStack() as stack:
        mirrors = []
        for _ in range(2):
            mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=SLOW)
            await stack.enter_async_context(mirroring(mirror))
            mirrors.append(mirror)
        config = Config(master_key=KEY)
        # The callback reaches one of the two.
        app = create_app(runs.database, Recorder(), config=config, closed=mirrors[1].closed)
        url = await stack.enter_async_context(served(app))
        for mirror in mirrors:
            mirror.callbacks = Callbacks(runs.client, url, KEY)
        yield Told(runs, mirrors)


async def asked(handle: Handle) -> int:
    """Count how often Temporal was asked, by the run's history."""
    events = (await handle.fetch_history()).events
    kind = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED
    return sum(event.event_type == kind for event in events)


@pytest.mark.parametrize("how", ENDS)
async def test_every_end_is_shown_at_once(told: Told, how: str):
    runs = told.runs
    broken = node("b", does={"fails": 9, "final": True})
    failing = graph(START, node("a", does={"sleeps": 1}), broken, edges=["start>a", "a>b"])
    drawn = {"completed": NAPPER, "failed": failing}.get(how, SLEEPER)
    more = {"execution_timeout": timedelta(seconds=1)} if how == "timed_out" else {}
    handle = await told.left(drawn, **more)
    if how == "cancelled":
        await handle.cancel()
    if how == "terminated":
        address = runs.client.service_client.config.target_host
        given = ("--address", address, "--workflow-id", handle.id, "--reason", "stop")
        await temporal_command("workflow", "terminate", *given)
    status, reason = ENDS[how]
    row = await becomes(runs, handle, status)
    assert row.status_reason == reason
    assert row.mirrored_at is not None
    assert row.finished_at is not None
    assert row.mirrored_at - row.finished_at <= SOON


async def test_two_mirrors_and_later_looks_leave_one_event(told: Told):
    handle = await told.left(SLEEPER)
    assert await asked(handle) == 1
    for mirror in told.mirrors:

        async def knows(mirror: Mirror = mirror) -> bool:
            return not (await mirror.follower.look(id_of(handle))).is_untold

        # The first look of the second may find that the other wrote before it.
        await until(knows)
        mirror.expect(id_of(handle))
    await asyncio.sleep(0.3)
    assert await asked(handle) == 1
    await told.end(handle)


async def test_a_mirror_that_begins_anew_knows_from_the_rows_that_temporal_tells(told: Told):
    handle = await told.left(SLEEPER)
    await told.mirrors[0].follower.look(id_of(handle))
    assert not (await told.runs.follower.look(id_of(handle))).is_untold
    await told.end(handle)


async def test_a_run_that_is_reset_goes_on_telling(told: Told):
    handle = await told.left(SLEEPER)
    await reset(told.runs, handle)
    await told.end(handle)
    await reset(told.runs, handle)
    assert not (await told.runs.follower.look(id_of(handle))).is_untold
    await told.end(handle)


async def test_a_run_that_ends_in_sight_costs_no_callback(told: Told):
    handle = await told.runs.start(LINE)
    await handle.result()
    told.mirrors[0].hint(id_of(handle))
    await becomes(told.runs, handle, "completed")
    assert await asked(handle) == 0
    assert (await told.mirrors[0].follower.look(id_of(handle))).closed


async def test_a_run_that_closes_as_temporal_is_asked_is_looked_at_again(told: Told):
    class Late(Callbacks):
        async def ask(self, execution_id: UUID) -> bool:
            await told.runs.client.get_workflow_handle(f"execution-{execution_id}").terminate()
            return await super().ask(execution_id)

    for mirror in told.mirrors:
        mirror.callbacks = Late(told.runs.client, "http://127.0.0.1:1", KEY)
    handle = await told.runs.start(SLEEPER)
    told.mirrors[0].expect(id_of(handle))
    row = await becomes(told.runs, handle, "failed")
    assert row.status_reason == "terminated"


async def test_the_sweep_asks_for_what_nobody_asked_for(runs: Runs, database_url: str):
    pace = Pace(sweep=0.3, silence=timedelta())
    callbacks = Callbacks(runs.client, "http://127.0.0.1:1", KEY)
    handle = await runs.start(SLEEPER)
    mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=pace, callbacks=callbacks)
    async with mirroring(mirror):
        await until(lambda: asked(handle))
        await asyncio.sleep(1)
        assert await asked(handle) == 1
    await handle.terminate()


@pytest.mark.parametrize("is_mirrored_by_another", [False, True])
async def test_a_close_that_is_mirrored_already_is_no_news_and_a_later_one_is(
    runs: Runs, database_url: str, is_mirrored_by_another: bool
):
    mirror = Mirror(runs.client, runs.database, database_url=database_url)
    handle = await runs.start(LINE)
    await handle.result()
    execution_id = id_of(handle)
    if is_mirrored_by_another:
        assert (await runs.follower.look(execution_id)).closed
    assert (await mirror.follower.look(execution_id)).closed
    row = await runs.row(execution_id)
    assert row.finished_at is not None
    mirror.closed(execution_id, row.finished_at)
    mirror.hint(execution_id, run_id=str(row.temporal_run_id))
    assert not mirror._watches
    mirror.closed(execution_id, row.finished_at + timedelta(milliseconds=1))
    assert execution_id in mirror._watches


async def test_without_a_callback_the_sweep_finds_it(runs: Runs, database_url: str):
    pace = Pace(sweep=1)
    mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=pace)
    async with mirroring(mirror):
        handle = await runs.start(SLEEPER)
        await handle.terminate(reason="stop")
        row: Any = await becomes(runs, handle, "failed")
        assert row.status_reason == "terminated"
