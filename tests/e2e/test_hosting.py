"""Runs that are carried out where they start: by the API's own worker, as long as there is room."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.api.history.v1 import HistoryEvent
from temporalio.worker import SlotPermit, SlotReleaseContext, SlotReserveContext

import worker
from activities.clients import payloads, temporal
from activities.slots import OwnRuns
from local import mail
from tests.e2e import house as building
from tests.e2e.graphs import chain, node
from tests.e2e.house import House
from tests.e2e.target import Target

pytestmark = pytest.mark.anyio

Build = Callable[[int], Awaitable[House]]
LOG = chain(node("start", "TRIGGER_MANUAL"), node("log", "UTILITY_LOG", message="Here"))
REST = chain(
    node("start", "TRIGGER_MANUAL"),
    node("rest", "LOGIC_DELAY", mode="duration", duration="PT1S"),
    node("log", "UTILITY_LOG", message="Here"),
)


@pytest.fixture
async def build(
    database_url: str, temporal_address: str, task_queue: str, smtp_catcher: mail.Catcher, target: Target
) -> AsyncIterator[Build]:
    """Build a house whose API takes so many runs itself, and that has no other worker."""
    async with AsyncExitStack() as stack:

        async def built(runs: int) -> House:
            place = (database_url, temporal_address, task_queue, smtp_catcher, target)
            return await stack.enter_async_context(building.built(*place, hosts=runs))

        yield built


def begun(history: list[HistoryEvent]) -> Any:
    return history[0].workflow_execution_started_event_attributes


async def test_a_run_is_carried_out_where_it_starts(build: Build):
    house = await build(1)
    run = await house.start(await house.workflow(LOG, fields=()))
    assert (await house.ended(run))["status"] == "completed"
    assert begun(await house.history(run)).eager_execution_accepted


async def test_a_run_that_rests_goes_on_where_it_started(build: Build):
    house = await build(1)
    run = await house.start(await house.workflow(REST, fields=()))
    assert (await house.ended(run))["status"] == "completed"


async def test_a_run_that_nobody_waits_for_in_person_is_left_to_a_worker(build: Build, temporal_address: str):
    house = await build(1)
    workflow = await house.workflow(LOG, fields=())
    first = await house.start(workflow)
    await house.ended(first)
    rerun = (await house.api.post(f"/v1/executions/{first}/rerun", json={})).json()["id"]
    house.seen.append(rerun)
    waiting = await house.until(rerun, lambda run: run["temporal"]["run_id"] is not None)
    assert waiting["status"] in ("queued", "running")
    assert not begun(await house.history(rerun)).eager_execution_accepted
    client = await temporal.connect(temporal_address, data_converter=payloads.converter(house.keyring))
    async with worker.running(client, house.world):
        assert (await house.ended(rerun))["status"] == "completed"


def test_there_is_as_much_room_as_was_given():
    room = OwnRuns(2)
    asked = cast("SlotReserveContext", None)
    first, second = room.try_reserve_slot(asked), room.try_reserve_slot(asked)
    assert first is not None
    assert second is not None
    assert room.try_reserve_slot(asked) is None
    room.release_slot(cast("SlotReleaseContext", SimpleNamespace(permit=first)))
    assert room.try_reserve_slot(asked) is not None
    # What was polled took none of it.
    room.release_slot(cast("SlotReleaseContext", SimpleNamespace(permit=SlotPermit())))
    assert room.try_reserve_slot(asked) is None
