"""Steps that can only follow one another share an activity, and every one of them is a step all the same."""

import asyncio
from datetime import datetime
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import House, ok

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")
ANSWERS = {"email": "ada@example.com"}


def line(node_id: str, **config: Any) -> dict[str, Any]:
    return node(node_id, "UTILITY_LOG", message=node_id, **config)


def tell(**config: Any) -> dict[str, Any]:
    return node("tell", "ACTION_DELIVER_WEBHOOK", eventType="lead.told", **config)


async def markers(house: House, execution_id: Any) -> int:
    """Count the local activities of a run."""
    kind = EventType.EVENT_TYPE_MARKER_RECORDED
    return sum(event.event_type == kind for event in await house.history(execution_id))


async def listening(house: House) -> None:
    endpoint = {"url": house.target.url, "subscribed_events": ["*"]}
    await ok(house.api.post("/v1/webhook-endpoints", json=endpoint))


async def test_a_line_of_steps_is_one_activity_and_a_row_for_each_in_its_time(house: House):
    names = ("a", "b", "c", "d")
    workflow = await house.workflow(chain(FORM, *map(line, names)))
    execution_id = await house.submit(workflow, ANSWERS)
    assert (await house.ended(execution_id))["status"] == "completed"
    assert await markers(house, execution_id) == 1
    steps = list((await house.steps(execution_id)).values())
    assert [(step["node_id"], step["status"]) for step in steps] == [
        (name, "completed") for name in ("form", *names)
    ]
    for one, other in pairwise(steps):
        assert one["started_at"] <= one["finished_at"] <= other["started_at"] <= other["finished_at"]
    messages = [entry["message"] for entry in reversed(await house.logs(execution_id))]
    assert [message for message in messages if message in names] == list(names)
    await house.expect_rebuildable()


async def test_each_step_is_told_the_time_that_it_took_itself(house: House):
    await listening(house)
    house.target.held = asyncio.Event()
    workflow = await house.workflow(chain(FORM, line("a"), tell(), line("b")))
    execution_id = await house.submit(workflow, ANSWERS)
    while not house.target.requests:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.4)
    house.target.held.set()
    await house.ended(execution_id)
    assert await markers(house, execution_id) == 1
    times = {
        name: [datetime.fromisoformat(step[when]) for when in ("started_at", "finished_at")]
        for name, step in (await house.steps(execution_id)).items()
    }
    took = {name: (end - start).total_seconds() for name, (start, end) in times.items()}
    assert took["tell"] >= 0.4
    assert took["a"] < 0.4
    assert took["b"] < 0.4
    await house.expect_rebuildable()


async def test_a_fork_ends_it_and_each_branch_goes_on_by_itself(house: House):
    pairs = [("form", "a"), ("a", "b"), ("b", "c"), ("b", "d"), ("c", "e"), ("d", "f")]
    drawn = graph(FORM, *map(line, "abcdef"), *(edge(*pair) for pair in pairs))
    execution_id = await house.submit(await house.workflow(drawn), ANSWERS)
    assert (await house.ended(execution_id))["status"] == "completed"
    assert {step["status"] for step in (await house.steps(execution_id)).values()} == {"completed"}
    # Of the two branches the one that is left alone may take its rest together.
    assert 3 <= await markers(house, execution_id) <= 5
    await house.expect_rebuildable()


async def test_a_fast_path_that_fails_behind_another_step_goes_on_in_its_queue_as_ever(house: House):
    await listening(house)
    hook, attempts = tell(waitForDelivery=True, retry={"maxAttempts": 5, "initialSeconds": 1}), []
    for number, nodes in enumerate(([hook, line("b")], [line("a"), hook, line("b"), line("c")])):
        house.target.answers.extend([503])
        workflow = await house.workflow(chain(FORM, *nodes), name=f"Tell {number}")
        execution_id = await house.submit(workflow, ANSWERS)
        assert (await house.ended(execution_id))["status"] == "completed"
        steps = await house.steps(execution_id)
        assert [(name, step["status"]) for name, step in steps.items()] == [
            (each["id"], "completed") for each in (FORM, *nodes)
        ]
        assert steps["tell"]["error"] is None
        kinds = [event.event_type for event in await house.history(execution_id)]
        assert kinds.count(EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED) == 1
        told = [entry["message"] for entry in await house.logs(execution_id) if entry["node_id"] == "tell"]
        attempts.append((steps["tell"]["attempt"], sorted(m for m in told if m.startswith("Attempt"))))
    assert len(house.target.requests) == 4
    assert attempts[0] == attempts[1]
    assert attempts[0][1][0].startswith("Attempt 1 failed")
    await house.expect_rebuildable()


async def test_what_fails_for_good_behind_another_step_takes_its_error_branch_or_ends_the_run(house: House):
    unknown = tell(endpointIds=["00000000-0000-0000-0000-000000000001"])
    for policy in ("fail", "continue"):
        drawn = chain(FORM, line("a"), {**unknown, "data": {**unknown["data"]}}, line("b"))
        drawn["nodes"][2]["data"]["config"] = {**unknown["data"]["config"], "onError": policy}
        workflow = await house.workflow(drawn, name=f"Tell, else {policy}")
        execution_id = await house.submit(workflow, ANSWERS)
        run = await house.ended(execution_id)
        steps = await house.steps(execution_id)
        assert steps["a"]["status"] == "completed"
        assert (steps["tell"]["status"], steps["tell"]["error"]["type"]) == ("failed", "unknown_endpoint")
        assert (run["status"], "b" in steps) == (
            ("failed", False) if policy == "fail" else ("completed", True)
        )
        tried = [entry["message"] for entry in await house.logs(execution_id) if entry["node_id"] == "tell"]
        assert sum(message.startswith("Attempt 1 failed") for message in tried) == 1
    await house.expect_rebuildable()


async def test_what_was_done_before_a_cancel_is_told_of_a_run_that_is_cancelled_meanwhile(house: House):
    await listening(house)
    house.target.held = asyncio.Event()
    execution_id = await house.submit(
        await house.workflow(chain(FORM, line("a"), tell(waitForDelivery=True), line("b"))), ANSWERS
    )
    while not house.target.requests:
        await asyncio.sleep(0.02)
    began = monotonic()
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    run = await house.ended(execution_id)
    assert monotonic() - began < 10
    house.target.held.set()
    assert run["status"] == "cancelled"
    steps = await house.steps(execution_id)
    assert steps["a"]["status"] == "completed"
    assert steps["tell"]["status"] in ("cancelled", "completed")
    assert "b" not in steps
    await house.expect_rebuildable()
