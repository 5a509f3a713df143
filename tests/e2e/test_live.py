"""Live inspection of real runs: attempts as they are made, what a run waits for, and why."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from api.live.describer import named
from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import EMAIL, House, ok

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")
PERSON = {"email": "ada@example.com"}


async def until(asked: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """Ask the API until something holds of its answer."""
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        answer = (await ok(asked())).json()
        if holds(answer):
            return answer
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"still {answer}")
        await asyncio.sleep(0.05)


def calling(house: House, **retry: Any) -> dict[str, Any]:
    """Draw a form whose step calls the target."""
    call = node("call", "ACTION_HTTP_REQUEST", "Ask the bank", url=house.target.url, retry=retry)
    return chain(FORM, call)


async def called(house: House, graph: dict[str, Any]) -> tuple[UUID, str]:
    """Start a run and wait for its step; return the address of the step's attempts."""
    execution_id = await house.submit(await house.workflow(graph), PERSON)
    step = await house.until_step(execution_id, "call", "running")
    return execution_id, f"/v1/executions/{execution_id}/steps/{step['id']}/attempts"


async def test_attempts_are_listed_while_the_step_is_still_tried(house: House):
    house.target.answers.extend([503, 503])
    execution_id, path = await called(house, calling(house, initialSeconds=1, backoff=10))

    def are_told(page: Any) -> bool:
        # Temporal may tell of a failure before the worker's record of its start is there.
        statuses = [each["status"] for each in page["data"]]
        return statuses == ["failed", "failed", "scheduled"] and page["data"][1]["started_at"] is not None

    told = await until(lambda: house.api.get(path), are_told)
    first, second, third = told["data"]
    assert [each["attempt"] for each in told["data"]] == [1, 2, 3]
    assert first["error"]["type"] == second["error"]["type"] == "http_status"
    assert first["started_at"] < first["finished_at"] < first["next_attempt_at"] == second["started_at"]
    assert second["finished_at"] < second["next_attempt_at"] == third["next_attempt_at"]

    house.target.held = asyncio.Event()
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    await house.ended(execution_id)
    after = (await ok(house.api.get(path))).json()["data"]
    assert [each["status"] for each in after[:2]] == ["failed", "failed"]


async def test_the_attempt_under_way_names_its_worker(house: House):
    house.target.answers.append(503)
    house.target.held = held = asyncio.Event()
    held.set()
    execution_id, path = await called(house, calling(house, initialSeconds=1))
    await until(lambda: house.api.get(path), lambda page: len(page["data"]) == 2)
    held.clear()
    told = await until(lambda: house.api.get(path), lambda page: page["data"][-1]["status"] == "running")
    assert told["data"][-1]["attempt"] == 2
    assert told["data"][-1]["worker"] == named(house.temporal.identity)
    held.set()
    await house.ended(execution_id)
    after = (await ok(house.api.get(path))).json()["data"]
    assert [(each["attempt"], each["status"]) for each in after] == [(1, "failed"), (2, "succeeded")]


async def why(house: House, execution_id: UUID) -> dict[str, Any]:
    """Ask why a run is where it is."""
    told: dict[str, Any] = (await ok(house.api.get(f"/v1/executions/{execution_id}/why"))).json()
    return told


async def waiting(house: House, execution_id: UUID, kind: str) -> dict[str, Any]:
    """Wait until a run waits for one thing of this kind, and return that."""

    def holds(run: dict[str, Any]) -> bool:
        return run["live"] is not None and [each["kind"] for each in run["live"]["waits"]] == [kind]

    run = await house.until(execution_id, holds)
    assert run["live_missing"] is None
    only: dict[str, Any] = run["live"]["waits"][0]
    return only


async def test_a_run_tells_what_it_waits_for_until_it_is_over(house: House):
    graph = chain(
        FORM,
        node("ask", "LOGIC_APPROVAL", "Ask the boss", message="ok?", timeout="P1D"),
        node("nap", "LOGIC_DELAY", "Nap", duration="P1D"),
    )
    execution_id = await house.submit(await house.workflow(graph), PERSON)
    ask = await waiting(house, execution_id, "approval")
    assert (ask["label"], ask["node_id"]) == ("Ask the boss", "ask")
    assert ask["since"] < ask["until"]
    assert (await why(house, execution_id))["sentence"].startswith("Waiting for a decision at “Ask the boss”")

    await ok(house.api.post(f"/v1/executions/{execution_id}/pause"))
    await house.until(execution_id, lambda run: run["status_reason"] == "paused")
    told = await why(house, execution_id)
    assert told["code"] == "paused"
    assert told["facts"]["paused_by"].startswith("api key ")
    await ok(house.api.post(f"/v1/executions/{execution_id}/resume"))

    body = {"step": ask["step_id"], "approved": True}
    await ok(house.api.post(f"/v1/executions/{execution_id}/approvals", json=body))
    nap = await waiting(house, execution_id, "timer")
    assert (nap["label"], (await why(house, execution_id))["code"]) == ("Nap", "sleeping")

    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    run = await house.ended(execution_id)
    assert (run["live"], run["live_missing"]) == (None, "run_over")
    assert (await why(house, execution_id))["sentence"].startswith("Cancelled through the API at")


async def test_a_retry_is_told_with_its_number_time_and_error(house: House):
    house.target.answers.extend([503] * 9)
    execution_id, _ = await called(house, calling(house, initialSeconds=300, maxAttempts=4))
    retry = await waiting(house, execution_id, "retry")
    assert (retry["attempt"], retry["max_attempts"]) == (2, 4)
    assert retry["last_error"] == {"type": "http_status", "message": "The service answered 503."}
    assert retry["until"] == retry["next_attempt_at"] > retry["since"]
    told = await why(house, execution_id)
    assert told["code"] == "retrying"
    assert told["sentence"].startswith("Retrying “Ask the bank”: attempt 2 of 4 is due at")
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    await house.ended(execution_id)


async def test_an_attempt_under_way_is_told_with_worker_and_time_limit(house: House):
    house.target.answers.append(503)
    house.target.held = held = asyncio.Event()
    held.set()
    execution_id, path = await called(house, calling(house, initialSeconds=1))
    await until(lambda: house.api.get(path), lambda page: len(page["data"]) == 2)
    held.clear()
    work = await waiting(house, execution_id, "activity")
    assert (work["attempt"], work["worker"]) == (2, named(house.temporal.identity))
    assert work["until"] > work["since"]
    assert (await why(house, execution_id))["sentence"].endswith("attempt 2 of 5.")
    held.set()
    await house.ended(execution_id)


async def test_a_held_step_waits_for_somebody(house: House):
    phone = {"field_key": "phone", "label": "Phone", "field_type": "TEXT"}
    change = node("change", "ACTION_UPDATE_LEAD", "Change", set={"company": "{{ lead.phone }}"})
    workflow = await house.workflow(chain(FORM, change), fields=(EMAIL, phone))
    await ok(house.api.patch(f"/v1/workflows/{workflow['id']}", json={"settings": {"hold_failures": True}}))
    execution_id = await house.submit(workflow, PERSON)
    await house.until(execution_id, lambda run: run["status_reason"] == "step_held")
    held = await waiting(house, execution_id, "held")
    assert held["last_error"]["type"] == "template_error"
    told = await why(house, execution_id)
    assert (told["code"], told["facts"]["step_id"]) == ("held", held["step_id"])
    await ok(house.api.post(f"/v1/executions/{execution_id}/steps/{held['step_id']}/skip"))
    assert (await house.ended(execution_id))["status"] == "completed"


async def test_a_runs_stream_tells_all_that_its_rows_tell(house: House):
    nap = node("nap", "LOGIC_DELAY", "Nap", duration="PT3S")
    log = node("log", "UTILITY_LOG", "Log", message="on")
    execution_id = await house.submit(await house.workflow(chain(FORM, nap, log)), PERSON)
    # It is answered when the run has ended and the stream with it.
    answer = await ok(house.api.get(f"/v1/executions/{execution_id}/events", timeout=60))
    events = [read(block) for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    assert [events[0]["event"], events[-1]["event"]] == ["snapshot", "end"]
    assert events[-1]["data"]["execution"]["status"] == "completed"
    told = {step["node_id"]: step["status"] for event in events for step in event["data"].get("steps", ())}
    assert told == {"form": "completed", "nap": "completed", "log": "completed"}
    kinds = [wait["kind"] for event in events if event["event"] == "live" for wait in waits_in(event)]
    assert "timer" in kinds


def read(block: str) -> dict[str, Any]:
    """Read one event of a stream."""
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    return {**fields, "data": json.loads(fields["data"])}


def waits_in(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Give what a run waits for, by its event `live`."""
    live = event["data"]["live"]
    return live["waits"] if live else []


async def test_an_overlay_shows_which_way_a_run_went_and_how_many_did(house: House):
    drawn = graph(
        FORM,
        node(
            "known", "LOGIC_CONDITION", condition={"field": "email", "operator": "contains", "value": "ada"}
        ),
        node("yes", "UTILITY_LOG", message="yes"),
        node("no", "UTILITY_LOG", message="no"),
        node("both", "LOGIC_MERGE"),
        edge("form", "known"),
        edge("known", "yes", "condition_true"),
        edge("known", "no", "condition_false"),
        edge("yes", "both"),
        edge("no", "both"),
    )
    workflow = await house.workflow(drawn)
    runs = [await house.submit(workflow, {"email": f"{who}@example.com"}) for who in ("ada", "bob", "ada2")]
    for execution_id in runs:
        await house.ended(execution_id)
    own = (await ok(house.api.get(f"/v1/executions/{runs[0]}/overlay"))).json()
    assert {name: each["status"] for name, each in own["nodes"].items()} == {
        **dict.fromkeys(("form", "known", "yes", "both"), "completed"),
        "no": "skipped",
    }
    assert own["nodes"]["no"]["skip_reason"] == "branch_not_taken"
    assert {name for name, each in own["edges"].items() if each["count"]} == {
        *("form>known>None", "known>yes>condition_true", "yes>both>None")
    }
    all_ = (await ok(house.api.get(f"/v1/workflows/{workflow['id']}/overlay"))).json()
    assert all_["runs"] == 3
    assert {name: (each["leads"], each["skipped"]) for name, each in all_["nodes"].items()} == {
        **dict.fromkeys(("form", "known", "both"), (3, 0)),
        "yes": (2, 1),
        "no": (1, 2),
    }
    assert all_["edges"]["known>yes>condition_true"]["count"] == 2
    assert all_["edges"]["known>no>condition_false"]["count"] == 1
    assert all_["nodes"]["known"]["p95_ms"] >= all_["nodes"]["known"]["p50_ms"] >= 0

    # What a rerun keeps, skipped steps too, was counted already.
    again = await ok(
        house.api.post(f"/v1/executions/{runs[0]}/rerun", json={"from": "node", "node_id": "both"})
    )
    rerun = UUID(again.json()["id"])
    house.seen.append(rerun)
    await house.ended(rerun)
    more = (await ok(house.api.get(f"/v1/workflows/{workflow['id']}/overlay"))).json()
    assert more["runs"] == 4
    assert (more["nodes"]["both"]["came"], all_["nodes"]["both"]["came"]) == (4, 3)
    for name in ("form", "known", "yes", "no"):
        assert more["nodes"][name] == all_["nodes"][name]


async def test_what_is_inside_a_loop_says_how_far_the_loop_is_and_what_is_beside_does_not(house: House):
    drawn = graph(
        node("start", "TRIGGER_MANUAL"),
        node("each", "LOGIC_FOR_EACH", "Each guest", items=[1, 2, 3], mode="parallel", concurrency=3),
        node("nap", "LOGIC_DELAY", "Nap", duration="P1D"),
        node("doze", "LOGIC_DELAY", "Doze", duration="PT1H"),
        edge("start", "each"),
        edge("each", "nap", "each"),
        edge("start", "doze"),
    )
    execution_id = await house.start(await house.workflow(drawn))

    def holds(run: dict[str, Any]) -> bool:
        return run["live"] is not None and len(run["live"]["waits"]) == 5

    waits = (await house.until(execution_id, holds))["live"]["waits"]
    assert {each["label"]: each["loop_node_id"] for each in waits} == {
        **dict.fromkeys(("Each guest", "Doze")),
        "Nap": "each",
    }
    told = await why(house, execution_id)
    assert told["sentence"].startswith("Sleeping at “Doze”")
    assert "Each guest" not in told["sentence"]
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    await house.ended(execution_id)
