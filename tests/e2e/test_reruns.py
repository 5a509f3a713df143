"""Executions that run again: what is kept is kept exactly, and nothing of it is sent a second time."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    ResetWorkflowExecutionRequest,
)
from temporalio.service import RPCError, RPCStatusCode

from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import EMAIL, House, ok

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")
PHONE = {"field_key": "phone", "label": "Phone", "field_type": "TEXT"}
NOTE = node("note", "UTILITY_SET_VARIABLES", "Note", assignments={"word": "{{ trigger.email }}"})
GREET = node("greet", "ACTION_SEND_EMAIL", "Greet", emailSubject="Hello", emailText="Hello {{ vars.word }}")
CHANGE = node("change", "ACTION_UPDATE_LEAD", "Change", set={"company": "{{ lead.phone }}"})
TELL = node(
    "tell",
    "ACTION_SEND_EMAIL",
    "Tell",
    emailSubject="Done",
    emailText="{{ lead.company | default: '-' }}, {{ vars.word | default: '-' }}",
)
BIG = {"field": "trigger.email", "operator": "=", "value": "nobody"}
OUT = {"email": "ada@example.com"}


def post(house: House) -> dict[str, Any]:
    """Write a node that calls the target."""
    return node("post", "ACTION_HTTP_REQUEST", "Post", method="POST", url=house.target.url, body={"a": 1})


def line(house: House) -> dict[str, Any]:
    return chain(FORM, NOTE, GREET, post(house), CHANGE, TELL)


async def rerun(house: House, execution_id: UUID, key: str | None = None, **body: Any) -> UUID:
    """Order a rerun; return the new execution."""
    headers = {"Idempotency-Key": key} if key else {}
    path = f"/v1/executions/{execution_id}/rerun"
    answer = await house.api.post(path, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    new_id = UUID(answer.json()["id"])
    if new_id not in house.seen:
        house.seen.append(new_id)
    return new_id


async def refused(house: House, execution_id: UUID, **body: Any) -> tuple[int, str]:
    """Order a rerun that is refused; return status and code."""
    answer = await house.api.post(f"/v1/executions/{execution_id}/rerun", json=body)
    told = answer.json()
    return answer.status_code, told["errors"][0]["code"] if "errors" in told else told["code"]


async def is_forgotten(house: House, execution_id: UUID) -> bool:
    """Tell whether Temporal no longer has a run."""
    try:
        await house.history(execution_id)
    except RPCError as error:
        return error.status == RPCStatusCode.NOT_FOUND
    return False


def subjects(house: House) -> list[str]:
    return sorted(mail.subject for mail in house.catcher.messages())


async def test_from_the_failure_what_ran_is_kept_and_sent_once(house: House):
    workflow = await house.workflow(line(house), fields=(EMAIL, PHONE))
    first = await house.submit(workflow, OUT)
    run = await house.ended(first)
    assert (run["status"], run["status_reason"]) == ("failed", "node_failed")
    before = await house.steps(first)

    await ok(house.api.patch(f"/v1/leads/{run['lead_id']}", json={"phone": "Acme"}))
    second = await rerun(house, first, key="once", **{"from": "failure"})
    assert await rerun(house, first, key="once", **{"from": "failure"}) == second

    again = await house.ended(second)
    assert (again["status"], again["rerun_of"], again["version"]) == ("completed", str(first), 1)
    steps = await house.steps(second)
    assert [(name, step["status"], step["skip_reason"]) for name, step in steps.items()] == [
        ("form", "completed", "kept"),
        ("note", "completed", "kept"),
        ("greet", "completed", "kept"),
        ("post", "completed", "kept"),
        ("change", "completed", None),
        ("tell", "completed", None),
    ]
    for name in ("form", "note", "greet", "post"):
        assert steps[name]["output_data"] == before[name]["output_data"], name
    assert subjects(house) == ["Done", "Hello"]
    (told,) = [mail for mail in house.catcher.messages() if mail.subject == "Done"]
    assert "Acme, ada@example.com" in (told.text or "")
    assert len(house.target.requests) == 1
    assert await refused(house, second, **{"from": "failure"}) == (409, "nothing_failed")

    third = await rerun(house, second, **{"from": "node", "node_id": "tell"})
    assert (await house.ended(third))["status"] == "completed"
    assert subjects(house) == ["Done", "Done", "Hello"]
    assert len(house.target.requests) == 1


async def test_from_a_node_only_that_and_what_follows_runs(house: House):
    workflow = await house.workflow(
        graph(
            *(FORM, NOTE, GREET, post(house), TELL, node("never", "UTILITY_LOG", message="x")),
            node("big", "LOGIC_CONDITION", condition=BIG),
            *(edge("form", "note"), edge("note", "greet"), edge("form", "post"), edge("post", "tell")),
            *(edge("form", "big"), edge("big", "never", "condition_true")),
        )
    )
    first = await house.submit(workflow, OUT)
    assert (await house.ended(first))["status"] == "completed"
    assert await refused(house, first, **{"from": "node", "node_id": "never"}) == (409, "node_not_reached")
    assert await refused(house, first, **{"from": "node", "node_id": "nobody"}) == (422, "unknown_node")
    assert await refused(house, first, **{"from": "node"}) == (422, "node_id")

    second = await rerun(house, first, **{"from": "node", "node_id": "post"})
    assert (await house.ended(second))["status"] == "completed"
    steps = await house.steps(second)
    kept = {name for name, step in steps.items() if step["skip_reason"] == "kept"}
    assert kept == {"form", "note", "greet", "big"}
    assert (steps["never"]["status"], steps["never"]["skip_reason"]) == ("skipped", "branch_not_taken")
    assert subjects(house) == ["Done", "Done", "Hello"]
    assert len(house.target.requests) == 2
    keys = {request.headers["idempotency-key"] for request in house.target.requests}
    assert len(keys) == 2


async def test_from_the_start_everything_runs_with_other_data_if_wanted(house: House):
    workflow = await house.workflow(chain(FORM, NOTE, GREET))
    first = await house.submit(workflow, OUT)
    await house.ended(first)
    assert await refused(house, first, **{"from": "node", "node_id": "greet", "trigger_data": {}}) == (
        422,
        "trigger_data_kept",
    )
    second = await rerun(house, first, trigger_data={"email": "bob@example.com"})
    run = await house.ended(second)
    assert (run["status"], run["trigger_type"], run["rerun_of"]) == ("completed", "FORM", str(first))
    texts = [(mail.text or "").strip() for mail in house.catcher.messages()]
    assert texts == ["Hello ada@example.com", "Hello bob@example.com"]


async def test_on_the_latest_version_what_still_fits_is_kept(house: House):
    fail = node("check", "UTILITY_FAIL", "Check", message="not yet")
    workflow = await house.workflow(chain(FORM, NOTE, GREET, fail))
    first = await house.submit(workflow, OUT)
    assert (await house.ended(first))["status"] == "failed"

    await house.publish(workflow, chain(FORM, NOTE, GREET, post(house), TELL))
    same = await rerun(house, first, **{"from": "failure"})
    assert (await house.ended(same))["status"] == "failed"
    latest = await rerun(house, first, **{"from": "failure", "version": "latest"})
    run = await house.ended(latest)
    assert (run["status"], run["version"]) == ("completed", 2)
    assert subjects(house) == ["Done", "Hello"]

    await house.publish(workflow, chain(FORM, {**NOTE, "id": "noted"}, GREET, TELL))
    assert await refused(house, first, **{"from": "failure", "version": "latest"}) == (409, "version_differs")


async def test_what_cannot_be_kept_exactly_never_starts_silently(house: House):
    workflow = await house.workflow(chain(FORM, NOTE, GREET, node("check", "UTILITY_FAIL", message="no")))
    first = await house.submit(workflow, OUT)
    await house.ended(first)
    await house.temporal.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace="default", workflow_execution=WorkflowExecution(workflow_id=f"execution-{first}")
        )
    )
    # What is gone cannot be mirrored again either.
    house.seen.remove(first)
    # Temporal deletes in its own time.
    async with asyncio.timeout(90):
        while not await is_forgotten(house, first):
            await asyncio.sleep(0.2)
    assert await refused(house, first, **{"from": "failure"}) == (409, "history_gone")

    body = {"workflow_id": workflow["id"], "queued_before": "2100-01-01T00:00:00Z", "from": "failure"}
    matched = (await ok(house.api.post("/v1/executions/bulk-rerun", json=body))).json()["matched"]
    assert matched == 1
    (row,) = await house.rows("SELECT id FROM workflow_executions WHERE rerun_of = :id", id=first)
    run = await house.ended(row["id"])
    assert (run["status"], run["status_reason"]) == ("failed", "history_gone")
    assert "Rerun from the start" in run["error"]["message"]
    assert subjects(house) == ["Hello"]
    fresh = await rerun(house, first)
    await house.ended(fresh)
    assert subjects(house) == ["Hello", "Hello"]


async def test_a_dozen_failed_runs_are_mended_and_run_again_by_one_request(house: House):
    workflow = await house.workflow(chain(FORM, NOTE, GREET, node("check", "UTILITY_FAIL", message="no")))
    firsts = [await house.submit(workflow, {"email": f"lead{number}@example.com"}) for number in range(12)]
    for execution_id in firsts:
        assert (await house.ended(execution_id, patience=60))["status"] == "failed"
    await house.publish(workflow, chain(FORM, NOTE, GREET, node("check", "UTILITY_LOG", message="yes")))

    body = {"status": "failed", "workflow_id": workflow["id"], "from": "failure", "version": "latest"}
    headers = {"Idempotency-Key": "mended"}
    for _ in range(2):
        answer = await ok(house.api.post("/v1/executions/bulk-rerun", json=body, headers=headers))
        assert (answer.status_code, answer.json()) == (202, {"matched": 12})
    # Without the key too: what has a rerun that is open or succeeded has no second one.
    assert (await ok(house.api.post("/v1/executions/bulk-rerun", json=body))).json() == {"matched": 0}

    made = await house.rows("SELECT id, rerun_of FROM workflow_executions WHERE rerun_of IS NOT NULL")
    assert {row["rerun_of"] for row in made} == set(firsts)
    for row in made:
        assert (await house.ended(row["id"], patience=60))["status"] == "completed"
    assert subjects(house) == ["Hello"] * 12
    house.seen.extend(row["id"] for row in made[:3])


async def test_a_reset_made_beside_flowtrack_repeats_no_effect(house: House):
    event = {"url": house.target.url, "subscribed_events": ["lead.told"]}
    await ok(house.api.post("/v1/webhook-endpoints", json=event))
    qualify = node("qualify", "ACTION_SET_LEAD_STATUS", status="QUALIFIED")
    deliver = node("deliver", "ACTION_DELIVER_WEBHOOK", eventType="lead.told", payload={"a": 1})
    note = node("event", "ACTION_ADD_LEAD_EVENT", eventType="TOLD", description="Told")
    workflow = await house.workflow(chain(FORM, NOTE, qualify, GREET, post(house), deliver, note))
    execution_id = await house.submit(workflow, OUT)
    run = await house.ended(execution_id)
    assert run["status"] == "completed"
    done = subjects(house), await house.events(run["lead_id"])

    await house.temporal.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=WorkflowExecution(workflow_id=f"execution-{execution_id}"),
            reason="again, please",
            request_id="1",
            workflow_task_finish_event_id=4,
        )
    )
    former = run["temporal"]["run_id"]

    def is_over_again(now: dict[str, Any]) -> bool:
        # A reset sends no hint; the sweep would find it within a minute.
        house.mirror.hint(execution_id)
        return bool(now["status"] == "completed" and now["temporal"]["run_id"] != former)

    again = await house.until(execution_id, is_over_again, patience=60)
    assert again["output_data"] == run["output_data"]
    assert (subjects(house), await house.events(run["lead_id"])) == done
    assert done[1].count("STATUS_CHANGED") == done[1].count("TOLD") == 1
    # One request and one delivery, as before.
    assert len(house.target.requests) == 2
    (quota,) = await house.rows("SELECT quota_used FROM usage_quotas WHERE quota_key = 'executions'")
    assert quota["quota_used"] == 1
