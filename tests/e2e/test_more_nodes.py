"""Forks, gates, requests, more leads and news for the team, from end to end."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from tests.e2e.graphs import edge, graph, node
from tests.e2e.house import EMAIL, House, ok

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")
BUDGET = {"field_key": "budget", "label": "Budget", "field_type": "NUMBER"}
CASES = [
    {"id": "large", "condition": {"field": "budget", "operator": ">=", "value": 10_000}},
    {"id": "some", "condition": {"field": "budget", "operator": ">=", "value": 1_000}},
]


def log(id_: str, message: str = "here") -> dict[str, Any]:
    return node(id_, "UTILITY_LOG", message=message)


def around(subject: dict[str, Any], *ways: str) -> dict[str, Any]:
    """Put a log after each way out of a node."""
    after = [log(way) for way in ways]
    onward = [edge(subject["id"], way, way) for way in ways]
    return graph(FORM, subject, *after, edge("form", subject["id"]), *onward)


async def ran(house: House, drawn: dict[str, Any], **answers: Any) -> tuple[UUID, dict[str, dict[str, Any]]]:
    """Run a graph to a good end, and return its steps."""
    workflow = await house.workflow(drawn, fields=(EMAIL, BUDGET))
    execution_id = await house.submit(workflow, {"email": "ada@example.com", **answers})
    run = await house.ended(execution_id)
    assert run["status"] == "completed", run
    return execution_id, await house.steps(execution_id)


def taken(steps: dict[str, dict[str, Any]]) -> set[str]:
    """Name the nodes that ran."""
    return {name for name, step in steps.items() if step["status"] == "completed"}


@pytest.mark.parametrize(
    ("mode", "budget", "ways"),
    [
        ("first_match", "20000", {"case_large"}),
        ("first_match", "2000", {"case_some"}),
        ("first_match", "2", {"default"}),
        ("all_matches", "20000", {"case_large", "case_some"}),
    ],
)
async def test_a_switch_leads_on_by_what_its_cases_say(house: House, mode: str, budget: str, ways: set[str]):
    fork = node("fork", "LOGIC_SWITCH", "Fork", cases=CASES, mode=mode)
    _, steps = await ran(house, around(fork, "case_large", "case_some", "default"), budget=budget)
    assert taken(steps) == {"form", "fork", *ways}
    assert set(steps["fork"]["handle"].split(",")) == ways
    assert steps["fork"]["output_data"]["cases"][0]["evaluation"]["left"] == float(budget)


async def test_a_split_gives_a_lead_the_same_variant_again(house: House):
    fork = node("fork", "LOGIC_SPLIT", "Fork", variants=[{"id": "a"}, {"id": "b"}])
    workflow = await house.workflow(around(fork, "variant_a", "variant_b"))
    chosen: dict[str, set[str]] = {}
    for _ in range(2):
        people = [f"person{number}@example.com" for number in range(6)]
        runs = await asyncio.gather(*(house.submit(workflow, {"email": each}) for each in people))
        for person, execution_id in zip(people, runs, strict=True):
            assert (await house.ended(execution_id))["status"] == "completed"
            steps = await house.steps(execution_id)
            chosen.setdefault(person, set()).add(steps["fork"]["handle"])
            assert taken(steps) == {"form", "fork", steps["fork"]["handle"]}
    assert all(len(ways) == 1 for ways in chosen.values())


@pytest.mark.parametrize(("used", "way"), [(0, "within_quota"), (12, "exceeded")])
async def test_a_gate_lets_through_what_the_quota_allows(house: House, used: int, way: str):
    await use_up(house, used)
    gate = node("gate", "LOGIC_QUOTA_GATE", quotaKey="email_sends", onExceeded="branch")
    _, steps = await ran(house, around(gate, "within_quota", "exceeded"))
    assert taken(steps) == {"form", "gate", way}


async def test_a_held_run_waits_for_the_next_period_and_can_be_cancelled(house: House):
    await use_up(house, 12)
    gate = node("gate", "LOGIC_QUOTA_GATE", quotaKey="email_sends", onExceeded="hold")
    workflow = await house.workflow(around(gate, "within_quota"))
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    step = (await house.steps(execution_id))["gate"]
    assert step["status"] == "running"
    assert datetime.fromisoformat(step["output_data"]["held_until"]) > datetime.now(UTC)
    booked = await house.rows(
        "SELECT quota_used FROM usage_quotas WHERE quota_key = 'email_sends' ORDER BY period_start"
    )
    assert [row["quota_used"] for row in booked] == [12, 1]
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel", json={"reason": "enough"}))
    assert (await house.ended(execution_id))["status"] == "cancelled"


async def use_up(house: House, used: int) -> None:
    """Use so much of a quota of ten mails."""
    await house.rows(
        "UPDATE usage_quotas SET quota_limit = 10, quota_used = :used"
        " WHERE quota_key = 'email_sends' RETURNING id",
        used=used,
    )


async def test_a_request_is_tried_again_under_one_key_and_shows_no_secret(house: House):
    house.target.answers += [503, 200]
    call = node(
        "call",
        "ACTION_HTTP_REQUEST",
        "Tell the service",
        method="POST",
        url=house.target.url,
        body={"email": "{{ lead.email }}"},
        auth={"type": "bearer", "token": "s3cret-of-the-service"},
        retry={"initialSeconds": 0.1},
    )
    execution_id, steps = await ran(house, around(call, "default", "error"))
    first, second = house.target.requests
    assert first.body == second.body == b'{"email":"ada@example.com"}'
    assert first.headers["authorization"] == "Bearer s3cret-of-the-service"
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert (steps["call"]["attempt"], steps["call"]["output_data"]["status"]) == (2, 200)
    assert taken(steps) == {"form", "call", "default"}
    assert steps["call"]["input_data"]["auth"]["token"] == "**********"
    shown = str(steps) + str(await house.logs(execution_id))
    assert "s3cret" not in shown


async def test_a_request_that_is_refused_takes_the_branch_for_errors(house: House):
    house.target.answers.append(404)
    call = node("call", "ACTION_HTTP_REQUEST", url=house.target.url, onError="branch")
    _, steps = await ran(house, around(call, "default", "error"))
    assert steps["call"]["error"]["type"] == "http_status"
    assert taken(steps) == {"form", "error"}


async def test_a_lead_is_created_beside_the_runs_own_and_found_the_next_time(house: House):
    create = node(
        "create",
        "ACTION_CREATE_LEAD",
        email="friend@example.com",
        fields={"first_name": "Friend of {{ lead.name }}", "budget": 7},
    )
    workflow = await house.workflow(around(create, "created", "existing"), fields=(EMAIL, BUDGET))
    for email, way in (("ada@example.com", "created"), ("grace@example.com", "existing")):
        execution_id = await house.submit(workflow, {"email": email})
        await house.ended(execution_id)
        steps = await house.steps(execution_id)
        assert taken(steps) == {"form", "create", way}
    lead_id = steps["create"]["output_data"]["lead_id"]
    lead = (await ok(house.api.get(f"/v1/leads/{lead_id}"))).json()
    assert (lead["email"], lead["first_name"], lead["fields"]) == (
        "friend@example.com",
        "Friend of grace",
        {"budget": "7"},
    )
    assert await house.events(lead_id) == ["LEAD_CREATED", "LEAD_UPDATED"]


async def test_the_owner_hears_of_a_lead(house: House):
    notify = node(
        "notify", "ACTION_NOTIFY_TEAM", subject="New: {{ lead.name }}", body="{{ lead.email }} is here"
    )
    _, steps = await ran(house, around(notify, "default"))
    (message,) = house.catcher.messages()
    assert (message.to, message.subject) == (["owner@acme.example"], "New: ada")
    assert steps["notify"]["output_data"]["status"] == "sent"
