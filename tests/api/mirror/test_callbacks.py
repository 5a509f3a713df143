"""Closes that Temporal tells of: whoever ended the run, the rows show it without hint and sweep."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from activities.clients.callbacks import Callbacks
from api.app import Config, create_app
from api.mirror.mirror import Mirror
from api.mirror.pace import Pace
from local.temporal import run as temporal_command
from tests.api.conftest import KEY, Recorder
from tests.api.mirror.stage import START, Runs, graph, id_of, node
from tests.api.mirror.test_mirror import LINE, SLEEPER, becomes, mirroring
from tests.serving import served

pytestmark = pytest.mark.anyio

SOON = timedelta(seconds=2)
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


@pytest.fixture
async def told(runs: Runs, database_url: str) -> AsyncIterator[Told]:
    """Serve two replicas' addresses of the API, with a sweep that comes too late for any test."""
    async with AsyncExitStack() as stack:
        mirrors = []
        for _ in range(2):
            mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=Pace(sweep=60))
            await stack.enter_async_context(mirroring(mirror))
            mirrors.append(mirror)
        config = Config(master_key=KEY)
        # The callback reaches one of the two.
        app = create_app(runs.database, Recorder(), config=config, closed=mirrors[1].closed)
        url = await stack.enter_async_context(served(app))
        Callbacks(url, KEY).attach(runs.client)
        yield Told(runs, mirrors)


@pytest.mark.parametrize("how", ENDS)
async def test_every_end_is_shown_at_once(told: Told, how: str):
    runs = told.runs
    broken = graph(START, node("a", does={"fails": 9, "final": True}), edges=["start>a"])
    drawn = {"completed": LINE, "failed": broken}.get(how, SLEEPER)
    more = {"execution_timeout": timedelta(seconds=1)} if how == "timed_out" else {}
    handle = await runs.start(drawn, **more)
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
