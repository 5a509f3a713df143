"""Control over a running execution: pause, hold, retry, skip, approve, events."""

import pytest

from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import EMAIL, House, ok

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")
PHONE = {"field_key": "phone", "label": "Phone", "field_type": "TEXT"}


async def test_a_paused_execution_begins_no_step_and_goes_on_when_resumed(house: House):
    workflow = await house.workflow(
        chain(FORM, node("nap", "LOGIC_DELAY", duration="PT1S"), node("log", "UTILITY_LOG", message="on"))
    )
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until(execution_id, lambda run: run["status"] == "waiting")

    await ok(house.api.post(f"/v1/executions/{execution_id}/pause", json={"comment": "wait"}))
    await house.until(execution_id, lambda run: run["status_reason"] == "paused")
    twice = await house.api.post(f"/v1/executions/{execution_id}/pause")
    assert (twice.status_code, twice.json()["code"]) == (409, "already_paused")
    nap = await house.until_step(execution_id, "nap", "completed")
    assert nap["finished_at"]
    assert (await ok(house.api.get(f"/v1/executions/{execution_id}"))).json()["status"] == "waiting"

    await ok(house.api.post(f"/v1/executions/{execution_id}/resume"))
    assert (await house.ended(execution_id))["status"] == "completed"


@pytest.mark.parametrize("decision", ["retry", "skip"])
async def test_a_held_failure_waits_for_a_decision(house: House, decision: str):
    workflow = await house.workflow(
        chain(
            FORM,
            node("change", "ACTION_UPDATE_LEAD", "Change", set={"company": "{{ lead.phone }}"}),
            node("log", "UTILITY_LOG", message="after"),
        ),
        fields=(EMAIL, PHONE),
    )
    await ok(house.api.patch(f"/v1/workflows/{workflow['id']}", json={"settings": {"hold_failures": True}}))
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    run = await house.until(execution_id, lambda run: run["status_reason"] == "step_held")
    step = (await house.steps(execution_id))["change"]
    assert (run["status"], step["status"]) == ("waiting", "failed")

    if decision == "retry":
        await ok(house.api.patch(f"/v1/leads/{run['lead_id']}", json={"phone": "+1 555 0100"}))
    await ok(house.api.post(f"/v1/executions/{execution_id}/steps/{step['id']}/{decision}"))

    assert (await house.ended(execution_id))["status"] == "completed"
    after = (await house.steps(execution_id))["change"]
    expected = {"retry": ("completed", None), "skip": ("skipped", "skipped_by_user")}[decision]
    assert (after["status"], after["skip_reason"]) == expected
    again = await house.api.post(f"/v1/executions/{execution_id}/steps/{step['id']}/retry")
    assert (again.status_code, again.json()["code"]) == (409, "execution_finished")


@pytest.mark.parametrize(("approved", "handle"), [(True, "approved"), (False, "rejected")])
async def test_an_approval_waits_for_people(house: House, approved: bool, handle: str):
    workflow = await house.workflow(
        graph(
            FORM,
            node("ask", "LOGIC_APPROVAL", "Ask", message="{{ lead.email }}?", minApprovals=2, timeout="P1D"),
            node("yes", "UTILITY_LOG", message="yes"),
            node("no", "UTILITY_LOG", message="no"),
            edge("form", "ask"),
            edge("ask", "yes", "approved"),
            edge("ask", "no", "rejected"),
        )
    )
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    step = (await house.steps(execution_id))["ask"]

    for person in ("ann", "ann", "bob"):
        body = {"step": step["id"], "approved": approved, "by": person}
        answer = await house.api.post(f"/v1/executions/{execution_id}/approvals", json=body)
        assert answer.status_code in (204, 409)
    assert (await house.ended(execution_id))["status"] == "completed"

    steps = await house.steps(execution_id)
    assert steps["ask"]["handle"] == handle
    assert [steps[name]["status"] for name in ("yes", "no")] == (
        ["completed", "skipped"] if approved else ["skipped", "completed"]
    )


async def test_an_event_that_comes_before_its_wait_still_counts(house: House):
    workflow = await house.workflow(
        chain(
            FORM,
            node("nap", "LOGIC_DELAY", duration="PT1S"),
            node("wait", "LOGIC_WAIT_FOR_EVENT", events=[{"id": "paid", "type": "PAID"}], timeout="P1D"),
        )
    )
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    body = {"type": "PAID", "data": {"amount": 5}}
    await ok(house.api.post(f"/v1/executions/{execution_id}/signals", json=body))

    await house.ended(execution_id)
    step = (await house.steps(execution_id))["wait"]
    assert step["handle"] == "event_paid"
    assert step["output_data"]["events"]["paid"]["data"] == {"amount": 5}


async def test_a_wait_looks_at_each_event_of_its_type_until_one_matches(house: House):
    rule = {"field": "amount", "operator": ">=", "value": 10}
    workflow = await house.workflow(
        chain(
            FORM,
            node(
                "wait",
                "LOGIC_WAIT_FOR_EVENT",
                events=[{"id": "paid", "type": "PAID", "match": rule}],
                timeout="P1D",
            ),
        )
    )
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    for amount in (5, 15):
        body = {"type": "PAID", "data": {"amount": amount}}
        await ok(house.api.post(f"/v1/executions/{execution_id}/signals", json=body))

    await house.ended(execution_id)
    events = (await house.steps(execution_id))["wait"]["output_data"]["events"]
    assert events["paid"]["data"] == {"amount": 15}


async def test_a_wait_ends_by_its_timeout(house: House):
    workflow = await house.workflow(
        chain(FORM, node("wait", "LOGIC_WAIT_FOR_EVENT", events=[{"id": "x", "type": "X"}], timeout="PT1S"))
    )
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.ended(execution_id)
    assert (await house.steps(execution_id))["wait"]["handle"] == "timeout"
