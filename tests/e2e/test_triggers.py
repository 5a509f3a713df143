"""Every trigger, from what happens outside to the run's end."""

import asyncio
import json
import time
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from temporalio.service import RPCError

from activities.clients import signatures
from activities.schedules import Schedules
from tests.e2e.graphs import chain, node
from tests.e2e.house import House, ok

pytestmark = pytest.mark.anyio

MOVED = "TRIGGER_LEAD_STATUS_CHANGED"


async def started(house: House, workflow: dict[str, Any], number: int = 1) -> list[UUID]:
    """Wait until a workflow has this many runs; return them, the oldest first."""
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        params = {"workflow_id": workflow["id"], "limit": 100}
        found = (await ok(house.api.get("/v1/executions", params=params))).json()["data"]
        if len(found) >= number:
            ids = [UUID(run["id"]) for run in reversed(found)]
            house.seen += [one for one in ids if one not in house.seen]
            return ids
        assert asyncio.get_running_loop().time() < deadline, f"{len(found)} runs of {number}"
        await asyncio.sleep(0.05)


async def test_a_signed_webhook_runs_to_its_end_with_its_lead(house: House):
    hook = node("hook", "TRIGGER_WEBHOOK", auth="hmac", emailPath="contact.email", idempotencyPath="id")
    log = node("log", "UTILITY_LOG", message="{{ lead.email }} wants {{ trigger.deal.amount }}")
    workflow = await house.workflow(chain(hook, log))
    made = (await ok(house.api.post(f"/v1/workflows/{workflow['id']}/hook/rotate", json={}))).json()
    body = json.dumps({"id": 7, "contact": {"email": "Ada@example.com"}, "deal": {"amount": 5}}).encode()
    signed = signatures.headers("msg_1", int(time.time()), body, secrets=[made["secret"]])
    headers = {**signed, "content-type": "application/json"}
    path = urlsplit(made["url"]).path

    answers = [await ok(house.public.post(path, content=body, headers=headers)) for _ in range(3)]
    forged = await house.public.post(path, content=body + b" ", headers=headers)

    assert forged.status_code == 401
    assert len({answer.json()["execution_id"] for answer in answers}) == 1
    (execution_id,) = await started(house, workflow)
    run = await house.ended(execution_id)
    assert (run["status"], run["trigger_type"]) == ("completed", "WEBHOOK")
    assert (await house.steps(execution_id))["log"]["input_data"]["message"] == "ada@example.com wants 5"
    assert await house.events(run["lead_id"]) == ["WEBHOOK_RECEIVED"]


async def test_a_paused_workflow_holds_what_its_hook_takes(house: House):
    workflow = await house.workflow(chain(node("hook", "TRIGGER_WEBHOOK"), node("end", "UTILITY_END")))
    shown = (await ok(house.api.get(f"/v1/workflows/{workflow['id']}/hook"))).json()
    await ok(house.api.post(f"/v1/workflows/{workflow['id']}/pause"))
    await ok(house.public.post(urlsplit(shown["url"]).path, json={"a": 1}))
    (execution_id,) = await started(house, workflow)
    await asyncio.sleep(1.5)
    run = (await ok(house.api.get(f"/v1/executions/{execution_id}"))).json()
    assert run["status"] == "queued"
    await ok(house.api.post(f"/v1/workflows/{workflow['id']}/resume"))
    assert (await house.ended(execution_id))["status"] == "completed"


async def test_a_form_starts_those_who_wait_for_leads_and_a_run_those_who_wait_for_a_status(house: House):
    greet = await house.workflow(
        chain(node("new", "TRIGGER_LEAD_CREATED"), node("log", "UTILITY_LOG", message="{{ lead.email }}")),
        name="Greet",
    )
    tell = await house.workflow(
        chain(
            node("moved", MOVED, toStatus=["QUALIFIED"]),
            node("log", "UTILITY_LOG", message="{{ trigger.from }} to {{ lead.status }}"),
        ),
        name="Tell",
    )
    form = await house.workflow(
        chain(node("form", "TRIGGER_FORM"), node("set", "ACTION_SET_LEAD_STATUS", status="QUALIFIED"))
    )

    cause = await house.submit(form, {"email": "ada@example.com"})
    await house.ended(cause)

    (greeted,), (told,) = await started(house, greet), await started(house, tell)
    assert (await house.ended(greeted))["status"] == "completed"
    run = await house.ended(told)
    assert run["trigger_data"]["cause"] == {"kind": "execution", "execution_id": str(cause)}
    assert (await house.steps(told))["log"]["input_data"]["message"] == "NEW to QUALIFIED"
    assert (await house.steps(greeted))["log"]["input_data"]["message"] == "ada@example.com"


async def test_two_workflows_that_trigger_each_other_stop_at_the_limit(house: House):
    def toggling(to: str, other: str) -> dict[str, Any]:
        return chain(node("moved", MOVED, toStatus=[other]), node("set", "ACTION_SET_LEAD_STATUS", status=to))

    ping = await house.workflow(toggling("A", "B"), name="Ping")
    pong = await house.workflow(toggling("B", "A"), name="Pong")
    form = await house.workflow(chain(node("form", "TRIGGER_FORM"), node("end", "UTILITY_END")))
    lead_id = (await house.ended(await house.submit(form, {"email": "a@example.com"})))["lead_id"]

    await ok(house.api.patch(f"/v1/leads/{lead_id}", json={"status": "A"}))

    runs = [*await started(house, pong, 3), *await started(house, ping, 3)]
    for run in runs:
        assert (await house.ended(run))["status"] == "completed"
    await asyncio.sleep(1)
    rows = await house.rows("SELECT hops FROM workflow_executions WHERE trigger_type = 'LEAD_EVENT'")
    assert sorted(row["hops"] for row in rows) == [0, 1, 2, 3, 4, 5]
    assert (await house.events(lead_id)).count("WORKFLOW_NOT_STARTED") == 1


async def test_a_schedule_follows_its_workflow_and_starts_its_runs(house: House):
    schedule = node("clock", "TRIGGER_SCHEDULE", cron="0 9 1 1 *", overlap="allow_all")
    log = node("log", "UTILITY_LOG", message="at {{ trigger.scheduled_at }}")
    workflow = await house.workflow(chain(schedule, log))
    path, handle = (
        f"/v1/workflows/{workflow['id']}",
        house.temporal.get_schedule_handle(f"workflow-{workflow['id']}"),
    )

    async def paused() -> bool | None:
        try:
            return bool((await handle.describe()).schedule.state.paused)
        except RPCError:
            return None

    async def until(wanted: bool | None) -> None:
        async with asyncio.timeout(20):
            while await paused() is not wanted:
                await asyncio.sleep(0.05)

    await until(False)
    await handle.trigger()
    (execution_id,) = await started(house, workflow)
    run = await house.ended(execution_id)
    assert (run["status"], run["trigger_type"]) == ("completed", "SCHEDULE")
    at = run["trigger_data"]["scheduled_at"]
    assert (await house.steps(execution_id))["log"]["input_data"]["message"] == f"at {at}"
    await ok(house.api.post(f"{path}/pause"))
    await until(True)
    await ok(house.api.post(f"{path}/resume"))
    await until(False)
    await ok(house.api.delete(path))
    await until(None)


async def test_publishing_does_not_need_temporal(house: House, monkeypatch: pytest.MonkeyPatch):
    async def away(*_: Any, **__: Any) -> None:
        raise RuntimeError("Failed client connect")

    with monkeypatch.context() as outage:
        outage.setattr(house.temporal, "create_schedule", away)
        workflow = await house.workflow(
            chain(node("clock", "TRIGGER_SCHEDULE", intervalSeconds=86_400), node("end", "UTILITY_END"))
        )
    await Schedules(house.world).arrange_schedules()
    handle = house.temporal.get_schedule_handle(f"workflow-{workflow['id']}")
    assert not (await handle.describe()).schedule.state.paused
    await handle.delete()
