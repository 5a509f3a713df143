"""Resets in the Temporal Web UI: rows follow the run that counts, and what it replaced can still be read."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle

from api.mirror.follower import Follower
from api.mirror.history import Histories
from tests.api.mirror.stage import START, Runs, gone, graph, id_of, node, reset, until, workers

pytestmark = pytest.mark.anyio

HIDDEN = {"maskOutput": True}
LINE = graph(
    START, node("a", label="First"), node("b", config=HIDDEN, label="Second"), edges=["start>a", "a>b"]
)


@pytest.fixture
async def chained(
    short_histories: Client, idle: Runs, task_queue: str
) -> AsyncIterator[tuple[Runs, WorkflowHandle[Any, Any]]]:
    """Run through a continue-as-new; workers go on."""
    runs = replace(idle, client=short_histories, follower=Follower(Histories(short_histories), idle.database))
    chain = [node(f"n{number}", "ACTION_SEND_EMAIL", does={"fails": 1}) for number in range(6)]
    edges = ["start>n0", *(f"n{number}>n{number + 1}" for number in range(5))]
    async with workers(short_histories, task_queue, runs.doings):
        handle = await runs.start(graph(START, *chain, edges=edges))
        await handle.result()
        yield runs, handle


async def ended(runs: Runs, handle: WorkflowHandle[Any, Any], run_id: str) -> None:
    """Wait for one of an execution's runs."""
    await runs.client.get_workflow_handle(handle.id, run_id=run_id).result()


async def superseded(runs: Runs, handle: WorkflowHandle[Any, Any]) -> list[tuple[str | None, str]]:
    """Read what the log tells of runs that were reset."""
    return [
        (line.run_id, line.message) for line in await runs.logs(id_of(handle)) if line.source == "superseded"
    ]


async def known(runs: Runs, handle: WorkflowHandle[Any, Any], *, count: int) -> None:
    """Wait until Temporal lists so many runs of an execution."""

    async def listed() -> bool:
        return len(await Histories(runs.client).runs(id_of(handle))) >= count

    await until(listed)


def forgetful(runs: Runs) -> Follower:
    """Give a follower as after a restart."""
    return Follower(Histories(runs.client), runs.database)


async def test_what_a_reset_took_back_is_told_by_the_log(runs: Runs):
    handle = await runs.start(LINE)
    await handle.result()
    await runs.follower.look(id_of(handle))
    before, first = await runs.steps(id_of(handle)), handle.first_execution_run_id
    second = await reset(runs, handle)
    await ended(runs, handle, second)
    assert (await runs.follower.look(id_of(handle))).closed
    assert {message for run_id, message in await superseded(runs, handle) if run_id == first} == {
        "TRIGGER_MANUAL completed: superseded by a reset",
        "First completed: superseded by a reset",
        "Second completed: superseded by a reset",
        "Run completed",
    }
    told = [line.message for line in await runs.logs(id_of(handle)) if line.source == "history"]
    assert told == ["Run started", "Reset: again", "Run completed"]
    (line,) = [line for line in await runs.logs(id_of(handle)) if line.message.startswith("First")]
    step = before["a:1"]
    assert (line.node_id, line.visit, line.created_at) == ("a", 1, step.finished_at)
    assert line.data is not None
    assert (line.data["output"], line.data["attempt"]) == (step.output_data, step.attempt)
    (hidden,) = [line for line in await runs.logs(id_of(handle)) if line.message.startswith("Second")]
    assert hidden.data is not None
    assert hidden.data["output"] == "***"


async def test_what_a_reset_kept_is_not_told_as_taken_back(runs: Runs):
    drawn = graph(
        START,
        node("a", "ACTION_SEND_EMAIL", does={"fails": 1}, config={"retry": {"initialSeconds": 0.1}}),
        node("b", label="Second"),
        edges=["start>a", "a>b"],
    )
    handle = await runs.start(drawn)
    await handle.result()
    assert (await runs.follower.look(id_of(handle))).closed
    (*_, last) = [
        event.event_id
        async for event in handle.fetch_history_events()
        if event.HasField("workflow_task_completed_event_attributes")
    ]
    await ended(runs, handle, await reset(runs, handle, to_event=last))
    assert (await runs.follower.look(id_of(handle))).closed
    told = {message for _, message in await superseded(runs, handle)}
    assert told == {"Second completed: superseded by a reset", "Run completed"}
    everything = await runs.everything(id_of(handle))
    assert await forgetful(runs).rebuild(id_of(handle))
    assert await runs.everything(id_of(handle)) == everything


async def test_rows_are_rebuilt_also_when_the_run_that_was_reset_is_gone(forgettable: Runs):
    runs = forgettable
    handle = await runs.start(LINE)
    await handle.result()
    await runs.follower.look(id_of(handle))
    await ended(runs, handle, await reset(runs, handle))
    await runs.follower.look(id_of(handle))
    everything = await runs.everything(id_of(handle))
    assert await forgetful(runs).rebuild(id_of(handle))
    assert await runs.everything(id_of(handle)) == everything
    await gone(runs, handle, handle.first_execution_run_id or "")
    assert await forgetful(runs).rebuild(id_of(handle))
    assert await runs.everything(id_of(handle)) == everything
    assert len(await superseded(runs, handle)) == 4


async def test_a_mirror_that_slept_through_every_run_tells_of_all_of_them(runs: Runs):
    handle = await runs.start(LINE)
    await handle.result()
    second = await reset(runs, handle)
    await ended(runs, handle, second)
    third = await reset(runs, handle)
    await ended(runs, handle, third)
    assert (await runs.follower.look(id_of(handle))).closed
    ends = [run_id for run_id, message in await superseded(runs, handle) if message == "Run completed"]
    assert ends == [handle.first_execution_run_id, second]
    assert (await runs.row(id_of(handle))).temporal_run_id == third
    everything = await runs.everything(id_of(handle))
    assert await forgetful(runs).rebuild(id_of(handle))
    assert await runs.everything(id_of(handle)) == everything


async def test_a_run_that_is_reset_twice_from_the_same_place_loses_nothing_of_what_came_between(runs: Runs):
    handle = await runs.start(LINE)
    await handle.result()
    await runs.follower.look(id_of(handle))
    second = await reset(runs, handle)
    await ended(runs, handle, second)
    assert (await runs.follower.look(id_of(handle))).closed
    third = await reset(runs, handle, run_id=handle.first_execution_run_id or "", request="once more")
    await ended(runs, handle, third)
    assert (await runs.follower.look(id_of(handle))).closed
    told = await superseded(runs, handle)
    assert [run_id for run_id, message in told if message == "Run completed"] == [
        handle.first_execution_run_id,
        second,
    ]
    assert (second, "First completed: superseded by a reset") in told
    assert len(told) == len(set(told))
    everything = await runs.everything(id_of(handle))
    assert await forgetful(runs).rebuild(id_of(handle))
    assert await runs.everything(id_of(handle)) == everything


async def test_a_run_between_two_resets_from_one_place_is_told_though_nobody_looked_meanwhile(
    runs: Runs,
):
    handle = await runs.start(LINE)
    await handle.result()
    first = handle.first_execution_run_id or ""
    second = await reset(runs, handle)
    await ended(runs, handle, second)
    third = await reset(runs, handle, run_id=first, request="once more")
    await ended(runs, handle, third)
    await known(runs, handle, count=3)
    assert (await runs.follower.look(id_of(handle))).closed
    told = await superseded(runs, handle)
    assert {run_id for run_id, message in told if message == "Run completed"} == {first, second}
    assert (second, "First completed: superseded by a reset") in told
    assert len(told) == len(set(told))
    assert (await runs.row(id_of(handle))).temporal_run_id == third
    everything = await runs.everything(id_of(handle))
    assert await forgetful(runs).rebuild(id_of(handle))
    assert await runs.everything(id_of(handle)) == everything


async def test_a_chain_of_runs_between_two_resets_is_told_from_its_beginning(
    chained: tuple[Runs, WorkflowHandle[Any, Any]],
):
    runs, handle = chained
    first = handle.first_execution_run_id or ""
    second = await reset(runs, handle, run_id=first)
    await runs.client.get_workflow_handle(handle.id, run_id=second).result(follow_runs=True)
    third = await reset(runs, handle, run_id=first, request="once more")
    await runs.client.get_workflow_handle(handle.id, run_id=third).result(follow_runs=True)
    await known(runs, handle, count=6)
    assert (await runs.follower.look(id_of(handle))).closed
    told = [
        (line.run_id, line.node_id) for line in await runs.logs(id_of(handle)) if line.source == "superseded"
    ]
    expected = [(run_id, f"n{number}") for run_id in (first, second) for number in range(6)]
    assert sorted(step for step in told if step in expected) == sorted(expected)


async def test_what_an_open_run_had_under_way_is_told_as_it_stood(runs: Runs):
    drawn = graph(START, node("a"), node("s", does={"sleeps": 60}, label="Nap"), edges=["start>a", "a>s"])
    handle = await runs.start(drawn)

    async def waiting() -> bool:
        await runs.follower.look(id_of(handle))
        return (await runs.row(id_of(handle))).status == "waiting"

    await until(waiting)
    await reset(runs, handle)
    await runs.follower.look(id_of(handle))
    messages = [message for _, message in await superseded(runs, handle)]
    assert "Nap running: superseded by a reset" in messages
    assert not [message for message in messages if message.startswith("Run failed")]
    assert (await runs.row(id_of(handle))).status in ("running", "waiting")


async def test_a_run_before_its_last_continuation_is_reset_with_all_that_followed(
    chained: tuple[Runs, WorkflowHandle[Any, Any]],
):
    runs, handle = chained
    last = (await runs.client.get_workflow_handle(handle.id).describe()).run_id
    assert last != handle.first_execution_run_id
    assert (await runs.follower.look(id_of(handle))).closed
    second = await reset(runs, handle, run_id=handle.first_execution_run_id or "")
    late = Follower(Histories(runs.client), runs.database)

    async def over() -> bool:
        return (await late.look(id_of(handle))).closed

    await until(over)
    assert (last, "Run completed") in await superseded(runs, handle)
    row = await runs.row(id_of(handle))
    assert row.status == "completed"
    assert row.temporal_run_id not in (last, handle.first_execution_run_id)
    assert second
    everything = await runs.everything(id_of(handle))
    assert await late.rebuild(id_of(handle))
    assert await runs.everything(id_of(handle)) == everything
