"""Ends that stay: chains are followed to their last run, what Temporal forgot is kept or told as lost."""

import logging
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy

from api.mirror.follower import Follower
from api.mirror.history import Histories
from api.mirror.mirror import Mirror
from api.mirror.pace import Pace
from tests.api.mirror.stage import START, Runs, gone, graph, id_of, node, until
from tests.api.mirror.test_mirror import LINE, SLEEPER, becomes, mirroring

pytestmark = pytest.mark.anyio

RUTHLESS = Pace(sweep=0.3, silence=timedelta(), lost_after=timedelta())


async def waits(runs: Runs, handle: WorkflowHandle[Any, Any]) -> bool:
    """Look, and tell whether the run is seen to wait."""
    await runs.follower.look(id_of(handle))
    return (await runs.row(id_of(handle))).status == "waiting"


async def test_a_run_that_is_retried_as_a_whole_is_followed_to_its_last_attempt(runs: Runs):
    # Runs that fail are not tried again, whatever they were started with; those that time out are.
    policy = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=2)
    handle = await runs.start(SLEEPER, retry_policy=policy, run_timeout=timedelta(seconds=1))
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert (await runs.follower.look(id_of(handle))).closed
    row = await runs.row(id_of(handle))
    last = (await runs.client.get_workflow_handle(handle.id).describe()).run_id
    assert (row.status, row.status_reason, row.temporal_run_id) == ("failed", "timed_out", last)
    assert last != handle.first_execution_run_id
    everything = await runs.everything(id_of(handle))
    assert await Follower(Histories(runs.client), runs.database).rebuild(id_of(handle))
    assert await runs.everything(id_of(handle)) == everything


async def test_a_mirror_that_fell_behind_never_takes_an_end_back(runs: Runs):
    drawn = graph(START, node("a", does={"sleeps": 1.5}), node("b"), edges=["start>a", "a>b"])
    handle = await runs.start(drawn)
    await until(partial(waits, runs, handle))
    await handle.result()
    quicker = Follower(Histories(runs.client), runs.database)
    assert (await quicker.look(id_of(handle))).closed
    everything = await runs.everything(id_of(handle))
    # It still stands where the run slept.
    await runs.follower.look(id_of(handle))
    assert (await runs.follower.look(id_of(handle))).closed
    assert await runs.everything(id_of(handle)) == everything


async def test_what_temporal_has_deleted_since_its_end_keeps_its_rows(forgettable: Runs, database_url: str):
    runs = forgettable
    handle = await runs.start(LINE)
    await handle.result()
    assert (await runs.follower.look(id_of(handle))).closed
    everything = await runs.everything(id_of(handle))
    await gone(runs, handle, handle.first_execution_run_id or "")
    mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=RUTHLESS)
    other = await runs.start(LINE)
    async with mirroring(mirror):
        mirror.hint(id_of(handle))
        assert not await mirror.rebuild(id_of(handle))
        await becomes(runs, other, "completed")
    assert await runs.everything(id_of(handle)) == everything


async def test_what_temporal_has_deleted_before_its_end_is_lost_and_its_steps_are_closed(
    forgettable: Runs, database_url: str, caplog: pytest.LogCaptureFixture
):
    runs = forgettable
    handle = await runs.start(SLEEPER)
    await until(partial(waits, runs, handle))
    await gone(runs, handle, handle.first_execution_run_id or "")
    mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=RUTHLESS)
    with caplog.at_level(logging.ERROR, logger="api.mirror.sweep"):
        async with mirroring(mirror):
            row = await becomes(runs, handle, "failed")
    assert (row.status_reason, row.error and row.error["type"]) == ("lost", "lost")
    assert row.finished_at is not None
    steps = await runs.steps(id_of(handle))
    assert {key: step.status for key, step in steps.items()} == {"start:1": "completed", "a:1": "cancelled"}
    assert steps["a:1"].finished_at is not None
    assert [record.message for record in caplog.records] == ["Temporal has lost a run"]
