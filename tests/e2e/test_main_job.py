"""The main job: a form submission runs through the graph, durably, and can be inspected."""

import asyncio
from collections import Counter
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from local import demo
from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import EMAIL, House, ok

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")


async def subscribed(house: House, event: str) -> str:
    """Subscribe the target to an event; return the endpoint's secret."""
    body = {"url": house.target.url, "subscribed_events": [event]}
    made = (await ok(house.api.post("/v1/webhook-endpoints", json=body))).json()
    return str(made["secret"])


async def test_one_submission_through_the_demo_graph_leaves_everything_it_should(house: House):
    secret = await subscribed(house, demo.EVENT)
    workflow = await house.workflow(demo.GRAPH, fields=demo.FIELDS, name=demo.NAME)

    execution_id = await house.submit(workflow, demo.ANSWERS)
    run = await house.ended(execution_id)

    assert (run["status"], run["status_reason"]) == ("completed", "answered")
    steps = await house.steps(execution_id)
    assert [(step["step_number"], name, step["status"], step["handle"]) for name, step in steps.items()] == [
        (1, "form", "completed", "default"),
        (2, "condition_check_budget", "completed", "condition_true"),
        (3, "qualify", "completed", "default"),
        (4, "send_thank_you_email", "skipped", None),
        (5, "send_high_value_email", "completed", "default"),
        (6, "meet", "completed", "default"),
        (7, "tell_crm", "completed", "default"),
        (8, "end", "completed", None),
    ]
    for name, step in steps.items():
        if step["status"] == "completed":
            assert step["output_data"] is not None, name
            assert step["started_at"] <= step["finished_at"], name
    # Rows hold neither what the version tells of an input nor the trigger's output; who asks is told both.
    asked = steps["send_high_value_email"]["input_data"]
    assert (asked["emailSubject"], asked["provider"]) == ("Let us talk about your project, Ada", "auto")
    assert steps["form"]["output_data"] == run["trigger_data"] == demo.ANSWERS

    (mail,) = house.catcher.messages()
    assert mail.to == ["ada@example.com"]
    (hook,) = house.target.requests
    told = Webhook(secret).verify(hook.body, hook.headers)
    assert told["data"] == {"email": "ada@example.com", "budget": "$10000+", "status": "QUALIFIED"}
    assert await house.events(run["lead_id"]) == ["FORM_SUBMITTED", "STATUS_CHANGED", "EMAIL_SENT"]
    lead = (await ok(house.api.get(f"/v1/leads/{run['lead_id']}"))).json()
    assert (lead["status"], lead["email"]) == ("QUALIFIED", "ada@example.com")
    (quota,) = await house.rows("SELECT quota_used FROM usage_quotas WHERE quota_key = 'executions'")
    assert quota["quota_used"] == 1


async def test_the_same_form_post_20_times_in_parallel_is_one_lead_and_one_run(house: House):
    workflow = await house.workflow(chain(FORM, node("log", "UTILITY_LOG", message="Hello {{ lead.email }}")))
    answers = {"email": "Ada@Example.com"}

    ran = await asyncio.gather(*(house.submit(workflow, answers) for _ in range(20)))

    assert len(set(ran)) == 1
    await house.ended(ran[0])
    assert await house.rows("SELECT count(*) FROM leads") == [{"count": 1}]
    assert await house.rows("SELECT count(*) FROM workflow_executions") == [{"count": 1}]
    assert await house.rows("SELECT count(*) FROM lead_events") == [{"count": 1}]


async def test_the_same_idempotency_key_20_times_in_parallel_is_one_execution(house: House):
    workflow = await house.workflow(chain(node("start", "TRIGGER_MANUAL"), node("end", "UTILITY_END")))
    path, headers = f"/v1/workflows/{workflow['id']}/executions", {"Idempotency-Key": "once"}

    async def post() -> tuple[int, str]:
        answer = await house.api.post(path, json={"trigger_data": {"n": 1}}, headers=headers)
        return answer.status_code, answer.json().get("id")

    answers = await asyncio.gather(*(post() for _ in range(20)))

    assert set(answers) == {answers[0]}
    assert answers[0][0] == 202
    house.seen.append(UUID(answers[0][1]))
    assert (await house.ended(house.seen[0]))["status"] == "completed"
    assert await house.rows("SELECT count(*) FROM workflow_executions") == [{"count": 1}]


async def test_a_sleeping_run_waits_and_then_goes_on(house: House):
    workflow = await house.workflow(
        chain(
            FORM,
            node("nap", "LOGIC_DELAY", "Nap", mode="duration", duration="PT3S"),
            node("log", "UTILITY_LOG", message="{{ lead.status }}"),
        )
    )

    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    run = await house.until(execution_id, lambda run: run["status"] == "waiting")
    await ok(house.api.patch(f"/v1/leads/{run['lead_id']}", json={"status": "WON"}))
    assert (await house.ended(execution_id))["status"] == "completed"

    steps = await house.steps(execution_id)
    assert steps["log"]["output_data"]["message"] == "WON"
    assert steps["nap"]["started_at"] < steps["nap"]["finished_at"]


async def test_a_run_terminated_from_outside_is_shown_as_such(house: House):
    workflow = await house.workflow(chain(FORM, node("nap", "LOGIC_DELAY", duration="P1D")))
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until(execution_id, lambda run: run["status"] == "waiting")

    run_in_temporal = house.temporal.get_workflow_handle(f"execution-{execution_id}")
    await run_in_temporal.terminate(reason="operator had enough")

    run = await house.ended(execution_id)
    assert (run["status"], run["status_reason"]) == ("failed", "terminated")
    assert "operator had enough" in run["error"]["message"]
    assert (await house.steps(execution_id))["nap"]["status"] == "cancelled"


async def test_a_run_cancelled_through_the_api_ends_at_once(house: House):
    workflow = await house.workflow(chain(FORM, node("nap", "LOGIC_DELAY", duration="P1D")))
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until(execution_id, lambda run: run["status"] == "waiting")

    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel", json={"reason": "changed my mind"}))

    assert (await house.ended(execution_id, patience=10))["status"] == "cancelled"
    assert (await house.steps(execution_id))["nap"]["status"] == "cancelled"


async def test_a_failed_node_ends_the_run_and_stops_its_other_branches(house: House):
    workflow = await house.workflow(
        graph(
            FORM,
            node("nap", "LOGIC_DELAY", duration="P1D"),
            node("broken", "UTILITY_LOG", "Broken", message="{{ trigger.phone }}"),
            edge("form", "nap"),
            edge("form", "broken"),
        ),
        fields=(EMAIL, {"field_key": "phone", "label": "Phone", "field_type": "TEXT"}),
    )

    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    run = await house.ended(execution_id)

    assert (run["status"], run["status_reason"]) == ("failed", "node_failed")
    steps = await house.steps(execution_id)
    assert steps["broken"]["status"] == "failed"
    assert "phone" in steps["broken"]["error"]["message"]
    assert steps["nap"]["status"] == "cancelled"


@pytest.mark.parametrize(("on_error", "handle"), [("continue", "default"), ("branch", "error")])
async def test_a_failed_node_goes_on_as_it_is_told(house: House, on_error: str, handle: str):
    workflow = await house.workflow(
        graph(
            FORM,
            node(
                "mail",
                "ACTION_SEND_EMAIL",
                to="nobody at all",
                emailSubject="x",
                emailText="x",
                onError=on_error,
            ),
            node("fine", "UTILITY_LOG", message="fine"),
            node("error", "UTILITY_LOG", message="{{ steps.mail.error.type }}"),
            edge("form", "mail"),
            edge("mail", "fine", "default"),
            edge("mail", "error", "error"),
        )
    )

    execution_id = await house.submit(workflow, {"email": "ada@example.com"})

    assert (await house.ended(execution_id))["status"] == "completed"
    steps = await house.steps(execution_id)
    assert (steps["mail"]["status"], steps["mail"]["handle"]) == ("failed", handle)
    ran = {"default": "fine", "error": "error"}[handle]
    assert Counter(steps[name]["status"] for name in ("fine", "error")) == {"completed": 1, "skipped": 1}
    assert steps[ran]["status"] == "completed"
    assert house.catcher.messages() == []


async def test_the_quota_stops_a_run_before_its_first_node(house: House):
    await house.rows("UPDATE usage_quotas SET quota_limit = 0 WHERE quota_key = 'executions' RETURNING id")
    workflow = await house.workflow(chain(FORM, node("log", "UTILITY_LOG", message="never")))

    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    run = await house.ended(execution_id)

    assert (run["status"], run["status_reason"]) == ("failed", "quota_exceeded")
    assert await house.steps(execution_id) == {}


async def test_a_run_stays_on_the_version_it_began_with(house: House):
    workflow = await house.workflow(
        chain(FORM, node("nap", "LOGIC_DELAY", duration="PT2S"), node("log", "UTILITY_LOG", message="first"))
    )
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    path = f"/v1/workflows/{workflow['id']}"
    etag = (await ok(house.api.get(f"{path}/graph"))).headers["ETag"]
    changed = chain(FORM, node("other", "UTILITY_LOG", message="second"))
    await ok(house.api.put(f"{path}/graph", json=changed, headers={"If-Match": etag}))
    await ok(house.api.post(f"{path}/publish"))

    assert (await house.ended(execution_id))["version"] == 1
    assert list(await house.steps(execution_id)) == ["form", "nap", "log"]
    later = await house.submit(workflow, {"email": "grace@example.com"})
    assert (await house.ended(later))["version"] == 2
    assert list(await house.steps(later)) == ["form", "other"]


async def test_a_paused_workflow_takes_submissions_and_runs_them_when_it_is_resumed(house: House):
    workflow = await house.workflow(chain(FORM, node("log", "UTILITY_LOG", message="late")))
    await ok(house.api.post(f"/v1/workflows/{workflow['id']}/pause"))

    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await asyncio.sleep(1.5)
    assert (await ok(house.api.get(f"/v1/executions/{execution_id}"))).json()["status"] == "queued"

    await ok(house.api.post(f"/v1/workflows/{workflow['id']}/resume"))
    assert (await house.ended(execution_id))["status"] == "completed"
