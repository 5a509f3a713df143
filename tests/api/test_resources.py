"""Executions, leads, webhook endpoints and the small resources through the API."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from uuid_utils.compat import uuid7

from db import endpoints, logs, secrets
from tests.api.conftest import KEY, Form, Publish, Recorder, Tenant, count

pytestmark = pytest.mark.anyio


async def run(form: Form, body: object | None = None, **headers: str):
    path = f"/v1/workflows/{form.workflow_id}/executions"
    return await form.tenant.client.post(path, json=body or {}, headers=headers)


async def test_an_execution_is_ordered_and_answered_at_once(
    publish: Publish, acme: Tenant, starter: Recorder, database, app
):
    form = await publish()
    answer = await run(form, {"trigger_data": {"budget": "$5000"}})
    assert answer.status_code == 202
    started = answer.json()
    name = f"execution-{started['id']}"
    assert started == {
        "id": started["id"],
        "status": "queued",
        "temporal": {
            "workflow_id": name,
            "run_id": None,
            "url": f"http://temporal.test/namespaces/default/workflows/{name}",
        },
    }
    assert answer.headers["location"] == f"/v1/executions/{started['id']}"
    await app.state.platform.background.drain(1)
    assert [str(one) for one in starter.started] == [started["id"]]
    shown = (await acme.client.get(answer.headers["location"])).json()
    assert shown.keys() == {
        "id",
        "workflow_id",
        "version",
        "lead_id",
        "trigger_type",
        "status",
        "status_reason",
        "trigger_data",
        "output_data",
        "error",
        "rerun_of",
        "cause_execution_id",
        "live",
        "live_missing",
        "queued_at",
        "started_at",
        "finished_at",
        "temporal",
    }
    assert (shown["version"], shown["trigger_data"]) == (1, {"budget": "$5000"})
    assert await count(database, acme.workspace_id, "usage_events") == 1


async def test_the_same_key_in_parallel_is_one_execution(
    publish: Publish, acme: Tenant, starter: Recorder, database
):
    form = await publish()
    headers = {"Idempotency-Key": "abc"}
    answers = await asyncio.gather(*(run(form, {}, **headers) for _ in range(20)))
    assert {a.status_code for a in answers} == {202}
    assert len({a.text for a in answers}) == 1
    assert len(starter.started) == 1
    assert await count(database, acme.workspace_id, "workflow_executions") == 1
    assert await count(database, acme.workspace_id, "usage_events") == 1
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text("DELETE FROM idempotency_keys"))
    late = await run(form, {}, **headers)
    assert late.json()["id"] == answers[0].json()["id"]
    assert len(starter.started) == 1


async def test_only_a_published_workflow_runs(publish: Publish, acme: Tenant, starter: Recorder):
    draft = await acme.make("/v1/workflows", {"name": "Draft"})
    refused = await acme.client.post(f"/v1/workflows/{draft['id']}/executions", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_published")
    form = await publish()
    await acme.client.post(f"/v1/workflows/{form.workflow_id}/pause")
    assert (await run(form)).status_code == 202
    await acme.client.post(f"/v1/workflows/{form.workflow_id}/archive")
    assert (await run(form)).json()["code"] == "workflow_archived"
    assert len(starter.started) == 1


async def test_cancelling_withdraws_what_waits_and_asks_for_what_runs(
    publish: Publish, acme: Tenant, starter: Recorder, database
):
    form = await publish()
    waiting, running = [(await run(form)).json()["id"] for _ in range(2)]
    await set_status(database, acme, "running", running)
    withdrawn = await acme.client.post(f"/v1/executions/{waiting}/cancel")
    assert (withdrawn.status_code, withdrawn.json()["status"]) == (202, "cancelled")
    again = await acme.client.post(f"/v1/executions/{waiting}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "execution_finished")
    asked = await acme.client.post(f"/v1/executions/{running}/cancel")
    assert (asked.status_code, asked.json()["status"]) == (202, "running")
    assert [str(one) for one in starter.cancelled] == [waiting, running]


async def set_status(database, tenant: Tenant, status: str, execution_id: str) -> None:
    """Have an execution look as if Temporal had had it."""
    async with database.workspace(tenant.workspace_id) as session:
        await session.execute(
            text("UPDATE workflow_executions SET status = :status, dispatched_at = now() WHERE id = :id"),
            {"status": status, "id": execution_id},
        )


async def test_executions_are_listed_by_status_workflow_and_lead(publish: Publish, anonymous, acme: Tenant):
    form, other = await publish(), await publish(name="Other")
    await anonymous.post(form.path, json={"email": "a@example.com"})
    ids = [(await run(other)).json()["id"] for _ in range(3)]
    lead = (await acme.client.get("/v1/leads")).json()["data"][0]["id"]

    async def listed(query: str) -> list[str]:
        return [one["id"] for one in (await acme.client.get(f"/v1/executions?{query}")).json()["data"]]

    assert await listed(f"workflow_id={other.workflow_id}") == ids[::-1]
    assert len(await listed(f"lead_id={lead}")) == 1
    assert len(await listed("status=queued")) == 4
    assert await listed("status=failed") == []
    page = (await acme.client.get("/v1/executions?limit=3")).json()
    rest = (await acme.client.get(f"/v1/executions?limit=3&cursor={page['next_cursor']}")).json()
    assert (len(page["data"]), len(rest["data"]), rest["next_cursor"]) == (3, 1, None)


async def test_steps_and_log_lines_are_paged_and_filtered(publish: Publish, acme: Tenant, database):
    form = await publish()
    execution = UUID((await run(form)).json()["id"])
    began = datetime.now(UTC)
    lines = [
        {
            "execution_id": str(execution),
            "created_at": (began + timedelta(seconds=n // 2)).isoformat(),
            "id": str(uuid7()),
            "node_id": "log",
            "visit": 1,
            "log_level": "WARN" if n % 3 == 0 else "INFO",
            "message": f"line {n}",
        }
        for n in range(10)
    ]
    async with database.workspace(acme.workspace_id) as session:
        await logs.add(session, acme.workspace_id, lines, source="history")
        for number, node in enumerate(("form", "log", "end"), start=1):
            await session.execute(
                text(
                    "INSERT INTO execution_steps (workspace_id, id, execution_id, node_id, node_type,"
                    " step_number, status, visit)"
                    " VALUES (:w, :id, :e, :n, 'UTILITY_LOG', :number, 'completed', 1)"
                ),
                {"w": acme.workspace_id, "id": uuid7(), "e": execution, "n": node, "number": number},
            )
    path = f"/v1/executions/{execution}"
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (await acme.client.get(f"{path}/logs?limit=3{cursor and f'&cursor={cursor}'}")).json()
        seen += [line["message"] for line in page["data"]]
        cursor = page["next_cursor"]
    assert seen == [f"line {n}" for n in range(9, -1, -1)]
    warned = (await acme.client.get(f"{path}/logs?level=WARN")).json()["data"]
    assert [line["message"] for line in warned] == ["line 9", "line 6", "line 3", "line 0"]
    assert (await acme.client.get(f"{path}/logs?node_id=other")).json()["data"] == []
    steps = (await acme.client.get(f"{path}/steps?limit=2")).json()
    assert [step["node_id"] for step in steps["data"]] == ["form", "log"]
    rest = (await acme.client.get(f"{path}/steps?cursor={steps['next_cursor']}")).json()
    assert [step["node_id"] for step in rest["data"]] == ["end"]


async def test_a_lead_is_changed_and_its_history_tells(publish: Publish, anonymous, acme: Tenant):
    form = await publish()
    for email in ("a@example.com", "b@example.com"):
        await anonymous.post(form.path, json={"email": email, "first_name": email[0]})
    first, second = (await acme.client.get("/v1/leads")).json()["data"]
    path = f"/v1/leads/{first['id']}"
    changed = await acme.client.patch(path, json={"status": "QUALIFIED", "company": "Acme", "phone": None})
    assert (changed.json()["status"], changed.json()["company"]) == ("QUALIFIED", "Acme")
    taken = await acme.client.patch(path, json={"company": "Lost", "email": second["email"]})
    assert taken.status_code == 409
    assert (await acme.client.get(path)).json()["company"] == "Acme"
    moved = await acme.client.patch(path, json={"email": "C@Example.com"})
    assert moved.json()["email"] == "c@example.com"
    events = (await acme.client.get(f"{path}/events")).json()["data"]
    assert [e["event_type"] for e in events] == [
        "LEAD_UPDATED",
        "STATUS_CHANGED",
        "LEAD_UPDATED",
        "FORM_SUBMITTED",
    ]
    assert (events[1]["metadata"]["from"], events[1]["metadata"]["to"]) == ("NEW", "QUALIFIED")
    pipeline = (await acme.client.get("/v1/pipeline")).json()
    assert pipeline["data"] == [
        {"status": "NEW", "count": 1, "new_this_week": 1},
        {"status": "QUALIFIED", "count": 1, "new_this_week": 1},
    ]
    assert pipeline["total"] == 2
    assert [one["id"] for one in (await acme.client.get("/v1/leads?status=NEW")).json()["data"]] == [
        second["id"]
    ]
    assert len((await acme.client.get("/v1/leads?search=c@ex")).json()["data"]) == 1
    assert (await acme.client.delete(path)).status_code == 204
    assert (await acme.client.get(path)).status_code == 404
    assert (await acme.client.get(f"{path}/events")).status_code == 404
    assert len((await acme.client.get("/v1/leads")).json()["data"]) == 1


async def test_a_webhook_secret_is_shown_once_and_stored_sealed(acme: Tenant, database):
    body = {"url": "HTTPS://Example.com:443/hook", "subscribed_events": ["lead.*", "lead.*"]}
    headers = {"Idempotency-Key": "abc"}
    answer = await acme.client.post("/v1/webhook-endpoints", json=body, headers=headers)
    made = answer.json()
    assert (made["url"], made["subscribed_events"]) == ("https://example.com/hook", ["lead.*"])
    assert made["secret"].startswith("whsec_")
    replayed = await acme.client.post("/v1/webhook-endpoints", json=body, headers=headers)
    assert (replayed.json()["id"], replayed.json()["secret"]) == (made["id"], None)
    path = f"/v1/webhook-endpoints/{made['id']}"
    assert "secret" not in (await acme.client.get(path)).json()
    rotated = (await acme.client.post(f"{path}/rotate-secret")).json()
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_secret_expires_at"] is not None
    async with database.workspace(acme.workspace_id) as session:
        row = await endpoints.get(session, acme.workspace_id, UUID(made["id"]))
        bodies = text("SELECT string_agg(response_body, '') FROM idempotency_keys")
        stored = (await session.execute(bodies)).scalar_one()
    assert made["secret"] not in stored
    for column, secret in (("secret_sealed", rotated["secret"]), ("previous_secret_sealed", made["secret"])):
        opened = secrets.open_(
            getattr(row, column),
            key=KEY,
            table="webhook_endpoints",
            column=column,
            row_id=UUID(made["id"]),
            workspace_id=acme.workspace_id,
        )
        assert opened.decode() == secret


async def test_a_webhook_endpoint_is_changed_listed_and_deleted(acme: Tenant):
    made = await acme.make("/v1/webhook-endpoints", {"url": "https://example.com/a"})
    path = f"/v1/webhook-endpoints/{made['id']}"
    for bad, place in (
        ({"headers": {"webhook-id": "x"}}, "/headers"),
        ({"headers": {"X-A": "a\r\nb"}}, "/headers"),
        ({"subscribed_events": ["Nope!"]}, "/subscribed_events/0"),
        ({"max_attempts": 0}, "/max_attempts"),
        ({"max_attempts": True}, "/max_attempts"),
        ({"url": "https://10.0.0.1/"}, "/url"),
        ({"secret": "x"}, "/secret"),
    ):
        answer = await acme.client.patch(path, json=bad)
        assert answer.status_code == 422, bad
        assert answer.json()["errors"][0]["pointer"] == place
    changed = await acme.client.patch(path, json={"is_enabled": False, "headers": {"X-Team": "a"}})
    assert (changed.json()["is_enabled"], changed.json()["headers"]) == (False, {"X-Team": "a"})
    assert (await acme.client.get(f"{path}/deliveries")).json() == {"data": [], "next_cursor": None}
    assert len((await acme.client.get("/v1/webhook-endpoints")).json()["data"]) == 1
    assert (await acme.client.delete(path)).status_code == 204
    assert (await acme.client.get(f"{path}/deliveries")).status_code == 404


async def test_the_small_resources_answer(acme: Tenant, anonymous, starter: Recorder):
    quotas = (await acme.client.get("/v1/quotas")).json()["data"]
    assert {quota["quota_key"] for quota in quotas} == {"workflows", "leads", "executions", "email_sends"}
    assert all(quota["hard_limit"] == quota["quota_limit"] * 6 // 5 for quota in quotas)
    assert (await acme.client.get("/v1/workspace")).json()["slug"] == "acme"
    types = {one["name"]: one for one in (await acme.client.get("/v1/node-types")).json()["data"]}
    assert types["UTILITY_LOG"]["kind"] == "utility"
    assert "message" in types["UTILITY_LOG"]["config_schema"]["properties"]
    assert "error" in types["ACTION_SEND_EMAIL"]["handles"]
    assert (await acme.client.get("/v1/node-types/UTILITY_LOG")).json() == types["UTILITY_LOG"]
    assert (await acme.client.get("/v1/node-types/NOPE")).status_code == 404
    assert (await anonymous.get("/healthz")).json() == {"status": "ok"}
    ready = await anonymous.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    starter.reachable = False
    assert (await anonymous.get("/readyz")).json()["temporal"] == "unreachable"
    assert (await anonymous.get("/metrics")).status_code == 404
