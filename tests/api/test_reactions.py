"""Workflows that react to leads: which change starts which, in the cause's transaction, and where it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import jsonschema_rs
import pytest
from sqlalchemy import text

from db import leads, reactions, runs
from tests.api.conftest import Publish, Tenant, count
from tests.budgets.counting import Wire
from workflows.nodes.trigger_lead_created import LeadCreatedTrigger
from workflows.nodes.trigger_lead_status_changed import LeadStatusChangedTrigger

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[str]]
EMAIL = {"email": "ada@example.com"}


@pytest.fixture
def listening(acme: Tenant) -> Make:
    """Publish a workflow that reacts to leads."""

    async def made(trigger: str, name: str = "Reaction", **config: Any) -> str:
        workflow = await acme.make("/v1/workflows", {"name": name})
        nodes = [
            {"id": "lead", "type": trigger, "data": {"config": config}},
            {"id": "log", "type": "UTILITY_LOG", "data": {"config": {"message": "hello"}}},
        ]
        drawn = {
            "nodes": [{**node, "position": {"x": 0, "y": 0}} for node in nodes],
            "edges": [{"id": "e", "source": "lead", "target": "log"}],
            "viewport": {"x": 0, "y": 0, "zoom": 1},
        }
        await acme.graph(workflow["id"], drawn)
        published = await acme.client.post(f"/v1/workflows/{workflow['id']}/publish")
        assert published.status_code == 200, published.text
        return str(workflow["id"])

    return made


async def runs_of(acme: Tenant, workflow_id: str) -> list[dict[str, Any]]:
    """List a workflow's runs, the newest first."""
    found: list[dict[str, Any]] = (
        await acme.client.get("/v1/executions", params={"workflow_id": workflow_id})
    ).json()["data"]
    return found


async def test_a_new_lead_starts_who_waits_for_it_once(
    publish: Publish, listening: Make, anonymous, acme, starter
):
    waiting = await listening("TRIGGER_LEAD_CREATED")
    form = await publish()
    answers = await asyncio.gather(*(anonymous.post(form.path, json=EMAIL) for _ in range(10)))
    other = await anonymous.post(form.path, json={**EMAIL, "first_name": "Ada"})
    assert {a.status_code for a in (*answers, other)} == {202}
    (run,) = await runs_of(acme, waiting)
    (lead,) = (await acme.client.get("/v1/leads")).json()["data"]
    assert (run["trigger_type"], run["status"], run["lead_id"]) == ("LEAD_EVENT", "queued", lead["id"])
    assert run["trigger_data"] == {
        "lead_id": lead["id"],
        "event": "lead_created",
        "from": None,
        "to": None,
        "cause": {"kind": "form", "execution_id": None},
    }
    schema = LeadCreatedTrigger.output_schema()
    assert list(jsonschema_rs.iter_errors(schema, run["trigger_data"])) == []
    assert UUID(run["id"]) in starter.started
    assert len(starter.started) == 3


async def test_without_listeners_a_submission_costs_no_wait_more(
    publish: Publish, listening: Make, anonymous, database
):
    form = await publish()
    await listening("TRIGGER_LEAD_STATUS_CHANGED")
    await anonymous.post(form.path, json={"email": "first@example.com"})
    with Wire().traced(database) as wire:
        await anonymous.post(form.path, json=EMAIL)
    assert wire.trips == 1


async def test_a_change_of_status_starts_those_whose_lists_name_it(
    publish: Publish, listening: Make, anonymous, acme, starter
):
    changed = "TRIGGER_LEAD_STATUS_CHANGED"
    every = await listening(changed)
    right = await listening(changed, fromStatus=["NEW"], toStatus=["QUALIFIED", "WON"])
    wrong = [await listening(changed, toStatus=["LOST"]), await listening(changed, fromStatus=["WON"])]
    form = await publish()
    await anonymous.post(form.path, json=EMAIL)
    (lead,) = (await acme.client.get("/v1/leads")).json()["data"]
    for status in ("QUALIFIED", "QUALIFIED", "WON"):
        moved = await acme.client.patch(f"/v1/leads/{lead['id']}", json={"status": status})
        assert moved.status_code == 200, moved.text
    assert [r["trigger_data"]["to"] for r in await runs_of(acme, every)] == ["WON", "QUALIFIED"]
    (run,) = await runs_of(acme, right)
    assert run["trigger_data"] == {
        "lead_id": lead["id"],
        "event": "status_changed",
        "from": "NEW",
        "to": "QUALIFIED",
        "cause": {"kind": "api", "execution_id": None},
    }
    schema = LeadStatusChangedTrigger.output_schema()
    assert list(jsonschema_rs.iter_errors(schema, run["trigger_data"])) == []
    assert [await runs_of(acme, one) for one in wrong] == [[], []]
    assert UUID(run["id"]) in starter.started


async def test_a_filter_is_weighed_before_there_is_a_run(
    publish: Publish, listening: Make, anonymous, acme, database
):
    rich = {"field": "budget", "operator": ">=", "value": 5000}
    form_only = {"all": [rich, {"field": "lead.source", "operator": "equals", "value": "form"}]}
    holds = await listening("TRIGGER_LEAD_CREATED", filter=form_only)
    fails = await listening("TRIGGER_LEAD_CREATED", filter={"none": [rich]})
    form = await publish()
    await anonymous.post(form.path, json={**EMAIL, "budget": "$5000"})
    assert len(await runs_of(acme, holds)) == 1
    assert await runs_of(acme, fails) == []
    assert await count(database, acme.workspace_id, "usage_events") == 2


async def test_paused_workflows_queue_and_archived_or_deleted_ones_do_not(
    publish: Publish, listening: Make, anonymous, acme
):
    found = {verb: await listening("TRIGGER_LEAD_CREATED") for verb in ("pause", "archive")}
    for verb, workflow_id in found.items():
        await acme.client.post(f"/v1/workflows/{workflow_id}/{verb}")
    deleted = await listening("TRIGGER_LEAD_CREATED")
    await acme.client.delete(f"/v1/workflows/{deleted}")
    form = await publish()
    await anonymous.post(form.path, json=EMAIL)
    assert [len(await runs_of(acme, one)) for one in (*found.values(), deleted)] == [1, 0, 0]


async def test_another_workspaces_leads_start_nothing(
    publish: Publish, listening: Make, rival: Tenant, anonymous, database
):
    await publish()
    await listening("TRIGGER_LEAD_STATUS_CHANGED")
    own = await rival.make("/v1/workflows", {"name": "Own"})
    async with database.workspace(rival.workspace_id) as session:
        made = await leads.upsert(
            session, rival.workspace_id, workflow_id=UUID(own["id"]), email="a@example.com"
        )
    await rival.client.patch(f"/v1/leads/{made.lead.id}", json={"status": "WON"})
    for tenant in (rival.workspace_id,):
        assert await count(database, tenant, "workflow_executions") == 0


async def chained(acme: Tenant, database, workflow_id: str, lead_id: str, *, hops: int) -> UUID:
    """Order a run that stands behind others."""
    async with database.workspace(acme.workspace_id) as session:
        entry = await runs.entry(session, acme.workspace_id, UUID(workflow_id))
        assert entry is not None
        assert entry.version_id is not None
        made = await runs.queue(
            session,
            acme.workspace_id,
            workflow_id=UUID(workflow_id),
            version_id=entry.version_id,
            trigger_type="LEAD_EVENT",
            trigger_node_id="lead",
            trigger_data={},
            lead_id=UUID(lead_id),
        )
        given = {"hops": hops, "id": made}
        await session.execute(text("UPDATE workflow_executions SET hops = :hops WHERE id = :id"), given)
    return made


@pytest.mark.parametrize("hops", [0, reactions.MAX_HOPS - 1, reactions.MAX_HOPS])
async def test_a_chain_of_causes_ends_at_the_limit_and_says_so(
    hops: int, *, publish: Publish, listening: Make, anonymous, acme, database
):
    waiting = await listening("TRIGGER_LEAD_STATUS_CHANGED", name="Ping")
    form = await publish()
    await anonymous.post(form.path, json=EMAIL)
    (lead,) = (await acme.client.get("/v1/leads")).json()["data"]
    cause = await chained(acme, database, waiting, lead["id"], hops=hops)
    async with database.workspace(acme.workspace_id) as session:
        noted = await leads.add_event(session, acme.workspace_id, UUID(lead["id"]), "STATUS_CHANGED")
        change = reactions.Change(
            event="status_changed",
            lead_id=UUID(lead["id"]),
            event_id=noted.id,
            by="execution",
            execution_id=cause,
            before="NEW",
            after="WON",
        )
        started = await reactions.react(session, acme.workspace_id, change)
    kinds = await acme.client.get(f"/v1/leads/{lead['id']}/events")
    told = [one for one in kinds.json()["data"] if one["event_type"] == reactions.NOT_STARTED]
    if hops < reactions.MAX_HOPS:
        async with database.workspace(acme.workspace_id) as session:
            query = text("SELECT cause_execution_id, hops FROM workflow_executions WHERE id = :id")
            assert tuple((await session.execute(query, {"id": started[0]})).one()) == (cause, hops + 1)
        assert told == []
        return
    assert started == []
    (one,) = told
    assert one["metadata"]["reason"] == "hop_limit"
    assert one["metadata"]["workflow_id"] == waiting
    assert one["triggered_by_workflow_execution_id"] == str(cause)
    assert "Ping" in one["description"]


async def test_a_filter_that_cannot_be_read_starts_nothing_and_says_so(
    publish: Publish, listening: Make, anonymous, acme, database
):
    waiting = await listening("TRIGGER_LEAD_CREATED")
    async with database.workspace(acme.workspace_id) as session:
        broken = '{"id": "lead", "type": "TRIGGER_LEAD_CREATED", "config": {"filter": {"field": 1}}}'
        given = {"id": waiting, "trigger": broken}
        await session.execute(
            text("UPDATE workflows SET trigger = CAST(:trigger AS jsonb) WHERE id = :id"), given
        )
    form = await publish()
    assert (await anonymous.post(form.path, json=EMAIL)).status_code == 202
    assert await runs_of(acme, waiting) == []
    (lead,) = (await acme.client.get("/v1/leads")).json()["data"]
    told = (await acme.client.get(f"/v1/leads/{lead['id']}/events")).json()["data"]
    assert [one["metadata"].get("reason") for one in told] == ["bad_filter", None]


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ({"filter": {"field": "budget", "operator": "above", "value": 1}}, None),
        ({"fromStatus": "NEW"}, "config_invalid"),
        ({"toStatus": [""]}, "config_invalid"),
        ({"status": "NEW"}, "config_unknown_key"),
    ],
)
async def test_a_wrong_trigger_is_told_at_publish(acme: Tenant, written: dict[str, Any], code: str | None):
    workflow = await acme.make("/v1/workflows", {"name": "Wrong"})
    node = {"id": "t", "type": "TRIGGER_LEAD_STATUS_CHANGED", "position": {"x": 0, "y": 0}}
    drawn = {
        "nodes": [{**node, "data": {"config": written}}],
        "edges": [],
        "viewport": {"x": 0, "y": 0, "zoom": 1},
    }
    await acme.graph(workflow["id"], drawn)
    refused = await acme.client.post(f"/v1/workflows/{workflow['id']}/publish")
    assert refused.status_code == 422
    told = refused.json()["errors"][0]
    assert code is None or told["code"] == code
    assert told["pointer"].startswith("/nodes/0/data/config/")
