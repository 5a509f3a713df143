"""The follower on real runs: every way a run can go becomes the right rows."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import WorkflowExecution as Execution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from api.mirror.follower import Follower
from api.mirror.history import Histories
from db import mirrors
from tests.api.mirror.stage import START, Runs, graph, id_of, node, until, workers
from workflows.execution import ExecutionWorkflow
from workflows.frames import WalkState
from workflows.messages import RunState

pytestmark = pytest.mark.anyio

LINE = graph(START, node("a", label="First"), node("b"), edges=["start>a", "a>b"])


def restarted(runs: Runs) -> Follower:
    """Give a follower that remembers nothing, as after a restart or in another process."""
    return Follower(Histories(runs.client), runs.database)


async def asleep(handle: WorkflowHandle[Any, Any]) -> bool:
    """Tell whether a step of the run sleeps, which no mirror need have seen."""
    events = [event async for event in handle.fetch_history_events()]
    return any(event.HasField("timer_started_event_attributes") for event in events)


async def test_a_run_that_completes_becomes_rows(runs: Runs):
    handle = await runs.start(LINE)
    await handle.result()
    looked = await runs.follower.look(id_of(handle))
    assert looked.closed
    row = await runs.row(id_of(handle))
    assert (row.status, row.status_reason) == ("completed", None)
    assert row.temporal_run_id == handle.first_execution_run_id
    assert row.started_at is not None
    assert row.finished_at is not None
    steps = await runs.steps(id_of(handle))
    assert list(steps) == ["start:1", "a:1", "b:1"]
    assert [step.step_number for step in steps.values()] == [1, 2, 3]
    assert {step.status for step in steps.values()} == {"completed"}
    assert steps["start:1"].output_data == {"budget": 5000}
    first = steps["a:1"]
    assert (first.input_data, first.output_data) == ({"asked": "a"}, {"from": "a"})
    assert (first.label, first.handle, first.attempt) == ("First", "default", 1)
    assert steps["start:1"].finished_at is not None
    assert first.started_at is not None
    assert first.finished_at is not None
    assert steps["start:1"].finished_at <= first.started_at <= first.finished_at


async def test_the_log_tells_the_run_in_order(runs: Runs):
    line = {"level": "WARN", "message": "careful", "data": {"budget": 5000}}
    handle = await runs.start(graph(START, node("a", does={"log": [line]}, label="First"), edges=["start>a"]))
    await handle.result()
    await runs.follower.look(id_of(handle))
    logs = await runs.logs(id_of(handle))
    assert [(log.log_level, log.message) for log in logs] == [
        ("INFO", "Run started"),
        ("WARN", "careful"),
        ("INFO", "Run completed"),
    ]
    assert (logs[1].node_id, logs[1].visit, logs[1].data) == ("a", 1, {"budget": 5000})
    assert logs[1].execution_step_id == (await runs.steps(id_of(handle)))["a:1"].id


async def test_a_verbose_log_tells_every_step(runs: Runs):
    talkative = Follower(Histories(runs.client), runs.database, verbose=True)
    handle = await runs.start(LINE)
    await handle.result()
    await talkative.look(id_of(handle))
    assert [(log.log_level, log.message) for log in await runs.logs(id_of(handle))] == [
        ("INFO", "Run started"),
        ("DEBUG", "TRIGGER_MANUAL completed"),
        ("INFO", "First completed"),
        ("INFO", "UTILITY_LOG completed"),
        ("INFO", "Run completed"),
    ]


async def test_branches_that_are_not_taken_are_skipped(runs: Runs):
    drawn = graph(
        START,
        node("choice", "LOGIC_CONDITION", does={"handles": ("condition_true",)}),
        node("yes"),
        node("no"),
        node("merge", "LOGIC_MERGE"),
        edges=[
            "start>choice",
            "choice:condition_true>yes",
            "choice:condition_false>no",
            "yes>merge",
            "no>merge",
        ],
    )
    handle = await runs.start(drawn)
    await handle.result()
    await runs.follower.look(id_of(handle))
    steps = await runs.steps(id_of(handle))
    assert {key: step.status for key, step in steps.items()} == {
        "start:1": "completed",
        "choice:1": "completed",
        "yes:1": "completed",
        "no:1": "skipped",
        "merge:1": "completed",
    }
    assert steps["no:1"].skip_reason == "branch_not_taken"
    assert steps["no:1"].started_at is None
    assert steps["choice:1"].handle == "condition_true"
    assert steps["merge:1"].output_data == {"yes": {"from": "yes"}}


async def test_a_failed_step_ends_the_run_with_its_reason(runs: Runs):
    broken = node(
        "a", does={"fails": 9, "final": True, "type": "no_lead", "message": "no lead"}, label="First"
    )
    other = node("c", "ACTION_SEND_EMAIL", does={"fails": 1, "hangs": True})
    handle = await runs.start(graph(START, broken, node("b"), other, edges=["start>a", "a>b", "start>c"]))
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    await runs.follower.look(id_of(handle))
    row = await runs.row(id_of(handle))
    assert (row.status, row.status_reason) == ("failed", "node_failed")
    assert row.error == {"type": "no_lead", "message": "First: no lead", "step": "a:1", "node_id": "a"}
    steps = await runs.steps(id_of(handle))
    assert steps["a:1"].status == "failed"
    assert steps["a:1"].error == {"type": "no_lead", "message": "no lead"}
    assert steps["c:1"].status == "cancelled"
    assert "b:1" not in steps
    assert ("ERROR", "First failed: no lead") in [
        (x.log_level, x.message) for x in await runs.logs(id_of(handle))
    ]


@pytest.mark.parametrize(("on_error", "handle"), [("continue", "default"), ("branch", "error")])
async def test_a_step_that_may_fail_lets_the_run_go_on(runs: Runs, on_error: str, handle: str):
    broken = node("a", "ACTION_UPDATE_LEAD", does={"fails": 9, "final": True}, on_error=on_error)
    run = await runs.start(graph(START, broken, node("b"), edges=["start>a", f"a:{handle}>b"]))
    await run.result()
    await runs.follower.look(id_of(run))
    steps = await runs.steps(id_of(run))
    assert (steps["a:1"].status, steps["a:1"].handle) == ("failed", handle)
    assert steps["b:1"].status == "completed"
    assert (await runs.row(id_of(run))).status == "completed"


async def test_local_retries_are_counted(runs: Runs):
    handle = await runs.start(graph(START, node("a", does={"fails": 1}), edges=["start>a"]))
    await handle.result()
    await runs.follower.look(id_of(handle))
    steps = await runs.steps(id_of(handle))
    assert (steps["a:1"].status, steps["a:1"].attempt, steps["a:1"].error) == ("completed", 2, None)


async def test_a_failed_fast_try_and_its_queued_retries_are_one_step(runs: Runs):
    mail = node("a", "ACTION_SEND_EMAIL", does={"fails": 2}, config={"retry": {"initialSeconds": 0.1}})
    handle = await runs.start(graph(START, mail, edges=["start>a"]))
    await handle.result()
    await runs.follower.look(id_of(handle))
    steps = await runs.steps(id_of(handle))
    assert list(steps) == ["start:1", "a:1"]
    assert (steps["a:1"].status, steps["a:1"].attempt, steps["a:1"].error) == ("completed", 3, None)
    assert runs.doings.seen == [("a", 1), ("a", 2), ("a", 3)]


async def test_a_final_failure_of_a_fast_try_ends_the_step(runs: Runs):
    mail = node("a", "ACTION_SEND_EMAIL", does={"fails": 9, "final": True})
    handle = await runs.start(graph(START, mail, edges=["start>a"]))
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    await runs.follower.look(id_of(handle))
    steps = await runs.steps(id_of(handle))
    assert (steps["a:1"].status, steps["a:1"].attempt) == ("failed", 1)
    assert runs.doings.seen == [("a", 1)]


async def test_a_step_that_is_being_retried_shows_its_last_error(runs: Runs):
    mail = node("a", "ACTION_SEND_EMAIL", does={"fails": 1, "hangs": True})
    handle = await runs.start(graph(START, mail, edges=["start>a"]))

    async def scheduled() -> bool:
        await runs.follower.look(id_of(handle))
        found = (await runs.steps(id_of(handle))).get("a:1")
        return found is not None and found.error is not None

    await until(scheduled)
    step = (await runs.steps(id_of(handle)))["a:1"]
    assert (step.status, step.error) == ("running", {"type": "broken", "message": "it broke"})
    runs.doings.gate.set()
    await handle.result()
    assert (await runs.follower.look(id_of(handle))).closed
    step = (await runs.steps(id_of(handle)))["a:1"]
    assert (step.status, step.attempt, step.error) == ("completed", 2, None)


async def test_a_sleeping_run_is_waiting(runs: Runs):
    handle = await runs.start(
        graph(START, node("a", does={"sleeps": 1.5}), node("b"), edges=["start>a", "a>b"])
    )

    async def waiting() -> bool:
        await runs.follower.look(id_of(handle))
        return (await runs.row(id_of(handle))).status == "waiting"

    await until(waiting)
    step = (await runs.steps(id_of(handle)))["a:1"]
    assert (step.status, step.finished_at) == ("running", None)
    await handle.result()
    # As after a restart: the sleeping step comes from the stored cursor.
    assert (await restarted(runs).look(id_of(handle))).closed
    step = (await runs.steps(id_of(handle)))["a:1"]
    assert step.finished_at is not None
    assert step.started_at is not None
    assert step.status == "completed"
    assert step.finished_at - step.started_at > timedelta(seconds=1)
    assert (await runs.row(id_of(handle))).status == "completed"


async def test_a_terminated_run_failed_and_says_why(runs: Runs):
    handle = await runs.start(graph(START, node("a", does={"sleeps": 60}), edges=["start>a"]))
    await until(partial(asleep, handle))
    await handle.terminate(reason="wrong list")
    assert (await runs.follower.look(id_of(handle))).closed
    row = await runs.row(id_of(handle))
    assert (row.status, row.status_reason) == ("failed", "terminated")
    assert row.error == {"type": "terminated", "message": "wrong list"}
    assert (await runs.steps(id_of(handle)))["a:1"].status == "cancelled"


async def test_a_cancelled_run_keeps_the_cause(runs: Runs):
    handle = await runs.start(graph(START, node("a", does={"sleeps": 60}), edges=["start>a"]))
    await until(partial(asleep, handle))
    await handle.cancel(reason="the lead asked for it")
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    await runs.follower.look(id_of(handle))
    row = await runs.row(id_of(handle))
    assert (row.status, row.status_reason) == ("cancelled", "cancelled")
    assert row.error == {"type": "cancelled", "message": "the lead asked for it"}
    assert (await runs.steps(id_of(handle)))["a:1"].status == "cancelled"


async def test_a_run_that_times_out_failed(runs: Runs):
    drawn = graph(START, node("a", does={"sleeps": 60}), edges=["start>a"])
    handle = await runs.start(drawn, execution_timeout=timedelta(seconds=1))
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    await runs.follower.look(id_of(handle))
    row = await runs.row(id_of(handle))
    assert (row.status, row.status_reason) == ("failed", "timed_out")


async def test_what_masks_its_output_shows_nothing(runs: Runs):
    hidden = node("a", config={"maskOutput": True}, does={"log": [{"message": "secret"}]})
    drawn = graph(START, hidden, node("m", "LOGIC_MERGE"), node("b"), edges=["start>a", "a>m", "m>b"])
    handle = await runs.start(drawn)
    await handle.result()
    await runs.follower.look(id_of(handle))
    steps = await runs.steps(id_of(handle))
    shown: list[Any] = [steps[key].output_data for key in ("a:1", "m:1", "b:1")]
    assert shown == ["***", "***", {"from": "b"}]
    asked: Any = steps["a:1"].input_data
    assert asked == "***"
    assert "secret" not in [log.message for log in await runs.logs(id_of(handle))]


async def test_what_jsonb_cannot_hold_is_replaced(runs: Runs):
    odd = node("a", does={"output": {"nul": "a\0b", "deep": ["\0"]}})
    handle = await runs.start(graph(START, odd, edges=["start>a"]))
    await handle.result()
    await runs.follower.look(id_of(handle))
    assert (await runs.steps(id_of(handle)))["a:1"].status == "completed"


async def test_a_rerun_shows_what_it_kept_as_what_it_was_and_then_what_it_did(runs: Runs):
    failed = {"error": {"type": "broken", "message": "it broke"}}
    drawn = graph(
        START,
        node("a", config={"maskOutput": True}),
        node("f", on_error="branch"),
        node("no"),
        node("all", join="all"),
        node("off", disabled=True),
        node("alone"),
        node("b"),
        edges=["start>a", "a>f", "f:error>b", "f:default>no", "no>all", "a>all", "a>off"],
    )
    states = {
        "start>a": "taken",
        "a>f": "taken",
        "f:error>b": "taken",
        "f:default>no": "dead",
        "no>all": "dead",
    }
    visits = dict.fromkeys(("start", "alone", "a", "f", "no", "all", "off", "b"), 1)
    walk = WalkState.model_validate(
        {"edges": {**states, "a>all": "taken", "a>off": "taken"}, "visits": visits}
    )
    state = RunState(walk=walk, outputs={"start": {}, "a": 1, "f": failed}, ready=["b:1"])
    handle = await runs.start(drawn, state=state)
    await handle.result()
    await runs.follower.look(id_of(handle))
    steps = await runs.steps(id_of(handle))
    assert [(s.step_number, key, s.status, s.skip_reason, s.handle) for key, s in steps.items()] == [
        (1, "start:1", "completed", "kept", None),
        (2, "alone:1", "skipped", "unreachable", None),
        (3, "a:1", "completed", "kept", None),
        (4, "f:1", "failed", "kept", "error"),
        (5, "no:1", "skipped", "branch_not_taken", None),
        (6, "all:1", "skipped", "join_incomplete", None),
        (7, "off:1", "skipped", "disabled", None),
        (8, "b:1", "completed", None, "default"),
    ]
    hidden: Any = steps["a:1"].output_data
    assert hidden == "***"
    assert (steps["f:1"].error, steps["f:1"].output_data) == (failed["error"], None)
    assert (await runs.row(id_of(handle))).status == "completed"
    everything = await runs.everything(id_of(handle))
    assert await restarted(runs).rebuild(id_of(handle))
    assert await runs.everything(id_of(handle)) == everything


async def test_thousands_of_log_lines_arrive(runs: Runs):
    handle = await runs.start(graph(START, node("a", does={"lines": 3000}), edges=["start>a"]))
    await handle.result()
    await runs.follower.look(id_of(handle))
    messages = [log.message for log in await runs.logs(id_of(handle))]
    assert messages[1:3001] == [f"line {number}" for number in range(3000)]


async def test_a_reset_run_replaces_what_it_took_back(runs: Runs):
    handle = await runs.start(LINE)
    await handle.result()
    await runs.follower.look(id_of(handle))
    before = await runs.steps(id_of(handle))
    service = runs.client.workflow_service
    answer = await service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=runs.client.namespace,
            workflow_execution=Execution(workflow_id=handle.id, run_id=handle.first_execution_run_id or ""),
            reason="again",
            request_id="1",
            workflow_task_finish_event_id=4,
        )
    )
    await runs.client.get_workflow_handle(handle.id).result()
    assert (await runs.follower.look(id_of(handle))).closed
    row = await runs.row(id_of(handle))
    assert row.temporal_run_id == answer.run_id
    after = await runs.steps(id_of(handle))
    assert {key: step.id for key, step in after.items()} == {key: step.id for key, step in before.items()}
    assert after["b:1"].finished_at != before["b:1"].finished_at
    assert await runs.follower.rebuild(id_of(handle))


async def test_an_open_run_that_is_reset_goes_on_under_its_new_id(runs: Runs):
    drawn = graph(START, node("a"), node("s", does={"sleeps": 2}), edges=["start>a", "a>s"])
    handle = await runs.start(drawn)

    async def waiting() -> bool:
        await runs.follower.look(id_of(handle))
        return (await runs.row(id_of(handle))).status == "waiting"

    await until(waiting)
    answer = await runs.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=runs.client.namespace,
            workflow_execution=Execution(workflow_id=handle.id, run_id=handle.first_execution_run_id or ""),
            reason="again",
            request_id="1",
            workflow_task_finish_event_id=4,
        )
    )
    await runs.follower.look(id_of(handle))
    row = await runs.row(id_of(handle))
    assert row.temporal_run_id == answer.run_id
    assert row.status in ("running", "waiting")
    await runs.client.get_workflow_handle(handle.id, run_id=answer.run_id).result()
    assert (await runs.follower.look(id_of(handle))).closed
    everything = await runs.everything(id_of(handle))
    assert await restarted(runs).rebuild(id_of(handle))
    assert await runs.everything(id_of(handle)) == everything


async def test_followers_that_race_write_every_row_once(runs: Runs):
    handles = [await runs.start(LINE) for _ in range(5)]
    followers = [restarted(runs) for _ in range(4)]
    for _ in range(20):
        await asyncio.gather(*(f.look(id_of(handle)) for f in followers for handle in handles))
        await asyncio.sleep(0.05)
    await asyncio.gather(*(handle.result() for handle in handles))
    for follower in followers:
        for handle in handles:
            await until(partial(closed, follower, handle))
    for handle in handles:
        everything = await runs.everything(id_of(handle))
        assert [line["message"] for line in everything["logs"]] == [
            "Run started",
            "Run completed",
        ]
        assert await runs.follower.rebuild(id_of(handle))
        assert await runs.everything(id_of(handle)) == everything


async def closed(follower: Follower, handle: WorkflowHandle[Any, Any]) -> bool:
    """Look, and tell whether the run is seen to have closed."""
    return (await follower.look(id_of(handle))).closed


async def test_a_run_that_this_database_does_not_know_is_left_alone(runs: Runs):
    stranger = uuid4()
    assert (await runs.follower.look(stranger)).missing
    await runs.client.start_workflow(
        ExecutionWorkflow.run,
        runs.input(LINE, stranger),
        id=f"execution-{stranger}",
        task_queue=runs.task_queue,
    )
    assert (await runs.follower.look(stranger)).closed
    assert not await runs.follower.rebuild(stranger)


async def test_no_state_is_kept_of_what_is_over(runs: Runs):
    handle = await runs.start(LINE)
    await handle.result()
    await runs.follower.look(id_of(handle))
    async with runs.database.workspace(runs.workspace_id) as session:
        cursor = await mirrors.load(session, runs.workspace_id, id_of(handle))
    assert cursor is not None
    assert (cursor.closed, cursor.state) == (True, {})


async def test_a_run_that_continues_as_new_is_one_story(short_histories: Client, idle: Runs, task_queue: str):
    runs = replace(idle, client=short_histories, follower=Follower(Histories(short_histories), idle.database))
    chain = [node(f"n{number}", "ACTION_SEND_EMAIL", does={"fails": 1}) for number in range(6)]
    edges = ["start>n0", "start>s", *(f"n{number}>n{number + 1}" for number in range(5))]
    drawn = graph(START, *chain, node("s", does={"sleeps": 3}), edges=edges)
    async with workers(short_histories, task_queue, runs.doings):
        handle = await runs.start(drawn)
        execution_id = id_of(handle)
        await until(partial(closed, runs.follower, handle))
    row = await runs.row(execution_id)
    assert row.temporal_run_id != handle.first_execution_run_id
    assert row.status == "completed"
    steps = await runs.steps(execution_id)
    assert {step.status for step in steps.values()} == {"completed"}
    assert sorted(step.step_number for step in steps.values()) == list(range(1, 9))
    assert runs.doings.seen.count(("s", 1)) == 1
    logs = [log.message for log in await runs.logs(execution_id)]
    assert (logs.count("Run started"), logs.count("Run completed")) == (1, 1)
    everything = await runs.everything(execution_id)
    late = Follower(Histories(short_histories), runs.database)
    assert await late.rebuild(execution_id)
    assert await runs.everything(execution_id) == everything


async def test_a_step_that_falls_asleep_while_the_run_drains_does_not_hold_it_up(
    short_histories: Client, idle: Runs, task_queue: str
):
    runs = replace(idle, client=short_histories, follower=Follower(Histories(short_histories), idle.database))
    chain = [node(f"n{number}", "ACTION_SEND_EMAIL", does={"fails": 1}) for number in range(5)]
    late = node("s", "ACTION_SEND_EMAIL", does={"fails": 1, "takes": 3, "sleeps": 60})
    edges = ["start>n0", "start>s", *(f"n{number}>n{number + 1}" for number in range(4))]
    async with workers(short_histories, task_queue, runs.doings):
        handle = await runs.start(graph(START, *chain, late, edges=edges))

        async def asleep() -> bool:
            await runs.follower.look(id_of(handle))
            row = await runs.row(id_of(handle))
            return row.status == "waiting" and row.temporal_run_id != handle.first_execution_run_id

        await until(asleep)
    steps = await runs.steps(id_of(handle))
    assert steps["s:1"].status == "running"
    assert {steps[f"n{number}:1"].status for number in range(5)} == {"completed"}
