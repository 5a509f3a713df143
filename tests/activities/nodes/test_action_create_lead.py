"""ACTION_CREATE_LEAD: one lead for each address, made once, with its fields and its event."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from db import leads
from db.models import Lead, LeadEvent
from tests.activities.conftest import Stage

pytestmark = pytest.mark.anyio

CREATE = "ACTION_CREATE_LEAD"
GRACE = {"email": " Grace@Example.com ", "fields": {"first_name": "Grace", "budget": 5000}}
ADA = {"email": "{{ lead.email }}", "fields": {"company": "Engines"}}


async def lead_of(stage: Stage, lead_id: str) -> Any:
    """Read a lead's scope."""
    (row,) = [row for row in await stage.rows(Lead) if str(row.id) == lead_id]
    async with stage.database.workspace(stage.place.workspace_id) as session:
        return await leads.scope(session, stage.place.workspace_id, row.id)


async def test_a_lead_is_made_once_with_its_fields_and_its_event(stage: Stage):
    first, second = await stage.run(CREATE, GRACE), await stage.run(CREATE, GRACE, attempt=2)
    assert first.handles == second.handles == ("created",)
    assert first.output == second.output
    assert (first.output["created"], first.output["changed"]) == (True, ["source", "first_name", "budget"])
    made = await lead_of(stage, first.output["lead_id"])
    assert (made["email"], made["first_name"], made["source"]) == ("grace@example.com", "Grace", "workflow")
    assert made["workflow_id"] == str(stage.place.workflow_id)
    assert made["fields"] == {"budget": "5000"}
    (event,) = await stage.rows(LeadEvent)
    assert (event.event_type, str(event.lead_id)) == ("LEAD_CREATED", first.output["lead_id"])
    assert event.triggered_by_workflow_execution_id == stage.execution_id
    assert first.lead is None


async def test_parallel_steps_make_one_lead_and_one_event(stage: Stage):
    outcomes = await asyncio.gather(*(stage.run(CREATE, GRACE, visit=visit) for visit in range(1, 7)))
    assert [outcome.handles for outcome in outcomes].count(("created",)) == 1
    assert len({outcome.output["lead_id"] for outcome in outcomes}) == 1
    assert [row.event_type for row in await stage.rows(LeadEvent)] == ["LEAD_CREATED"]


async def test_a_known_address_is_updated_and_the_runs_own_lead_read_again(stage: Stage):
    outcome = await stage.run(CREATE, ADA)
    assert outcome.handles == ("existing",)
    assert outcome.output == {"lead_id": str(stage.lead_id), "created": False, "changed": ["company"]}
    assert outcome.lead["company"] == "Engines"
    assert await stage.events() == [
        ("LEAD_UPDATED", {"fields": ["company"], "workflow_id": str(stage.place.workflow_id)})
    ]
    again = await stage.run(CREATE, ADA, visit=2)
    assert again.output["changed"] == []
    assert len(await stage.events()) == 1


async def test_a_known_address_may_be_left_alone(stage: Stage):
    outcome = await stage.run(CREATE, {**ADA, "onDuplicate": "skip"})
    assert outcome.handles == ("existing",)
    assert outcome.output == {"lead_id": str(stage.lead_id), "created": False, "changed": []}
    assert (await stage.lead()).company is None
    assert await stage.events() == []


async def test_a_known_address_may_fail_the_step(stage: Stage):
    failure = await stage.fail(CREATE, {**ADA, "onDuplicate": "fail"})
    assert (failure.type, failure.non_retryable) == ("duplicate_lead", True)
    assert await stage.effects() == {}


@pytest.mark.parametrize("policy", ["update", "skip"])
async def test_a_deleted_lead_comes_back(stage: Stage, policy: str):
    await stage.change_lead(deleted_at=datetime.now(UTC))
    outcome = await stage.run(CREATE, {**ADA, "email": "ada@example.com", "onDuplicate": policy})
    assert outcome.handles == ("existing",)
    assert (await stage.lead()).deleted_at is None


@pytest.mark.parametrize(
    ("config", "type_", "names"),
    [
        ({"email": "nobody"}, "invalid_value", "email"),
        ({"email": "a@example.com, b@example.com"}, "invalid_value", "email"),
        ({"fields": {"colour": "red"}}, "unknown_field", "fields.colour"),
        ({"fields": {"status": "WON"}}, "unknown_field", "fields.status"),
        ({"fields": {"id": "x"}}, "unknown_field", "fields.id"),
        ({"fields": {"email": "b@example.com"}}, "unknown_field", "fields.email"),
        ({"fields": {"budget": "lots"}}, "invalid_value", "fields.budget"),
        ({"fields": {"company": ["x"]}}, "invalid_value", "fields.company"),
        ({"email": "{{ trigger.nobody }}"}, "template_error", "trigger.nobody"),
        ({"onDuplicate": "merge"}, "bad_config", "onDuplicate"),
    ],
)
async def test_what_cannot_be_a_lead_makes_none(stage: Stage, config: Any, type_: str, names: str):
    failure = await stage.fail(CREATE, {**GRACE, **config})
    assert (failure.type, failure.non_retryable) == (type_, True)
    assert names in failure.message
    assert len(await stage.rows(Lead)) == 1
    assert await stage.effects() == {}


async def test_a_run_without_a_lead_can_make_one(stage: Stage):
    stage.lead_id = None
    assert (await stage.run(CREATE, GRACE)).handles == ("created",)
