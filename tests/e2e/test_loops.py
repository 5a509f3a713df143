"""Loops from end to end: items one by one and side by side, jumps back, failures, resets, long ones."""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from temporalio.api.common.v1 import WorkflowExecution as Execution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

from tests.e2e.graphs import edge, graph, node
from tests.e2e.house import House, ok

pytestmark = pytest.mark.anyio

MANUAL = node("start", "TRIGGER_MANUAL")
DONE = node("done", "UTILITY_END", outcome="{{ steps.loop.count }} of {{ steps.loop.count }}")


def each(*body: dict[str, Any], **config: Any) -> dict[str, Any]:
    """Draw a loop over `trigger.items`, what it repeats one after the other, and an end behind it."""
    loop = node("loop", "LOGIC_FOR_EACH", items="{{ trigger.items }}", **config)
    chain = [edge(one["id"], other["id"]) for one, other in pairwise(body)]
    back = edge(body[-1]["id"], "loop")
    return graph(
        MANUAL,
        loop,
        *body,
        DONE,
        edge("start", "loop"),
        edge("loop", body[0]["id"], "each"),
        *chain,
        back,
        edge("loop", "done", "done"),
    )


async def rows_of(house: House, execution_id: UUID) -> dict[str, dict[str, Any]]:
    """Read an execution's steps by key."""
    found = await house.rows(
        "SELECT node_id || ':' || visit AS key, status, output_data FROM execution_steps"
        f" WHERE execution_id = '{execution_id}' ORDER BY step_number"
    )
    return {row["key"]: row for row in found}


def mail(**config: Any) -> dict[str, Any]:
    return node(
        "mail", "ACTION_SEND_EMAIL", to="{{ loop.item }}", emailSubject="Hi", emailText="Hi", **config
    )


async def test_every_item_gets_its_mail_and_a_reset_sends_none_again(house: House):
    people = [f"guest{number}@example.com" for number in range(7)]
    workflow = await house.workflow(each(mail(), mode="parallel", concurrency=3))
    execution_id = await house.start(workflow, items=people)
    run = await house.ended(execution_id)
    assert (run["status"], run["status_reason"]) == ("completed", "7 of 7"), run
    again = await reset_to_start(house, execution_id)
    await house.temporal.get_workflow_handle(f"execution-{execution_id}", run_id=again).result()
    assert await house.mirror.rebuild(execution_id)
    run = await house.ended(execution_id)
    assert (run["temporal"]["run_id"], run["status_reason"]) == (again, "7 of 7")
    assert sorted(message.to[0] for message in house.catcher.messages()) == people
    steps = await rows_of(house, execution_id)
    assert {key for key in steps if key.startswith("mail")} == {f"mail:{number}" for number in range(1, 8)}
    assert steps["loop:1"]["output_data"] == {"count": 7, "failed": 0}


async def reset_to_start(house: House, execution_id: UUID) -> str:
    """Set a run back to its first workflow task, as an operator would; return the new run's id."""
    events = await house.history(execution_id)
    first = next(e for e in events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
    request = ResetWorkflowExecutionRequest(
        namespace=house.temporal.namespace,
        workflow_execution=Execution(workflow_id=f"execution-{execution_id}"),
        reason="once more",
        request_id="once-more",
        workflow_task_finish_event_id=first.event_id,
    )
    return (await house.temporal.workflow_service.reset_workflow_execution(request)).run_id


async def test_a_failed_item_is_counted_and_the_loop_goes_on(house: House):
    workflow = await house.workflow(each(mail(), onItemError="continue"))
    execution_id = await house.start(workflow, items=["a@example.com", "nobody at all", "c@example.com"])
    assert (await house.ended(execution_id))["status"] == "completed"
    steps = await rows_of(house, execution_id)
    assert [steps[f"mail:{visit}"]["status"] for visit in (1, 2, 3)] == ["completed", "failed", "completed"]
    assert steps["loop:1"]["output_data"] == {"count": 3, "failed": 1}


async def test_what_is_no_list_fails_the_loop_and_names_the_field(house: House):
    workflow = await house.workflow(each(mail()))
    run = await house.ended(await house.start(workflow, items="a, b"))
    assert run["error"]["type"] == "not_a_list"
    assert run["error"]["message"].endswith("items: expected a list, got str.")


async def test_a_jump_tries_again_until_the_service_answers(house: House):
    house.target.answers += [500, 500]
    call = node(
        "call", "ACTION_HTTP_REQUEST", url=house.target.url, onError="branch", retry={"maxAttempts": 1}
    )
    again = node("again", "LOGIC_GOTO", targetNodeId="call", maxVisits=5, minIntervalSeconds=1)
    drawn = graph(
        MANUAL,
        call,
        again,
        node("fine", "UTILITY_END", outcome="answered"),
        node("lost", "UTILITY_END", outcome="lost"),
        edge("start", "call"),
        edge("call", "again", "error"),
        edge("call", "fine", "default"),
        edge("again", "call", "default"),
        edge("again", "lost", "exhausted"),
    )
    execution_id = await house.start(await house.workflow(drawn))
    run = await house.ended(execution_id)
    assert (run["status"], run["status_reason"]) == ("completed", "answered"), run
    steps = await rows_of(house, execution_id)
    assert {key: step["status"] for key, step in steps.items() if key[:4] in ("call", "lost")} == {
        "call:1": "failed",
        "call:2": "failed",
        "call:3": "completed",
        "lost:1": "skipped",
    }


@pytest.mark.parametrize("version", ["same", "latest"])
async def test_a_rerun_from_the_failure_goes_on_with_the_item_that_failed(house: House, version: str):
    call = node(
        "call", "ACTION_HTTP_REQUEST", url=f"{house.target.url}?{{{{ loop.item }}}}", retry={"maxAttempts": 1}
    )
    log = node("log", "UTILITY_LOG", message="{{ steps.call.status }}")
    house.target.answers += [200, 500]
    workflow = await house.workflow(each(call, log))
    execution_id = await house.start(workflow, items=["a", "b", "c"])
    assert (await house.ended(execution_id))["status"] == "failed"
    await house.publish(workflow, each(call, node("log", "UTILITY_LOG", message="mended")))
    asked_for = {"from": "failure", "version": version}
    answer = await ok(house.api.post(f"/v1/executions/{execution_id}/rerun", json=asked_for))
    again = UUID(answer.json()["id"])
    house.seen.append(again)
    run = await house.ended(again)
    assert (run["status"], run["status_reason"]) == ("completed", "3 of 3"), run
    asked = [request.path.partition("?")[2] for request in house.target.requests]
    assert asked == ["a", "b", "b", "c"]
    steps = await rows_of(house, again)
    assert {key for key, step in steps.items() if step["status"] == "completed"} == {
        *("start:1", "loop:1", "call:2", "log:2", "call:3", "log:3", "done:1")
    }
    assert run["version"] == (2 if version == "latest" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
async def test_ten_thousand_items_go_from_one_history_to_the_next_and_no_row_is_missing(
    house: House, mode: str
):
    """No history of the chain reaches 10,000 events or 20 MB."""
    log = node("log", "UTILITY_LOG", message="x")
    workflow = await house.workflow(each(log, maxItems=10_000, mode=mode, concurrency=20))
    execution_id = await house.start(workflow, items=list(range(10_000)))
    run = await house.ended(execution_id, patience=900)
    assert (run["status"], run["status_reason"]) == ("completed", "10000 of 10000"), run
    sizes = [history async for history in histories(house, execution_id)]
    assert len(sizes) > 1
    assert all(events < 10_000 and size < 20_000_000 for events, size in sizes), sizes
    (told,) = await house.rows(
        "SELECT count(*) AS steps, count(DISTINCT step_number) AS numbers, max(step_number) AS last"
        f" FROM execution_steps WHERE execution_id = '{execution_id}' AND status = 'completed'"
    )
    assert told == {"steps": 10_003, "numbers": 10_003, "last": 10_003}


async def histories(house: House, execution_id: UUID) -> AsyncIterator[tuple[int, int]]:
    """Yield the events and bytes of each run of an execution, the last run first."""
    run_id: str | None = None
    while run_id != "":
        handle = house.temporal.get_workflow_handle(f"execution-{execution_id}", run_id=run_id)
        events = (await handle.fetch_history()).events
        yield len(events), sum(event.ByteSize() for event in events)
        run_id = events[0].workflow_execution_started_event_attributes.continued_execution_run_id
