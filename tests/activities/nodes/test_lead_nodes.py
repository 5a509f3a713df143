"""The nodes that change a lead: each once, each with its event, all or nothing."""

import asyncio
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from db.models import Lead
from tests.activities.conftest import Stage

pytestmark = pytest.mark.anyio

UPDATE, STATUS, EVENT = "ACTION_UPDATE_LEAD", "ACTION_SET_LEAD_STATUS", "ACTION_ADD_LEAD_EVENT"


async def test_an_update_writes_columns_and_answers_and_tells_of_it(stage: Stage):
    outcome = await stage.run(UPDATE, {"set": {"company": "Acme {{ trigger.budget }}", "budget": 7000}})
    assert outcome.lead["company"] == "Acme $5000"
    assert outcome.lead["fields"] == {"budget": "7000"}
    assert outcome.output == {"changed": ["company", "budget"]}
    assert await stage.events() == [("LEAD_UPDATED", {"fields": ["company", "budget"]})]


async def test_a_repeated_update_changes_nothing_more(stage: Stage):
    config = {"set": {"budget": 1}, "mode": "increment"}
    first, second = await stage.run(UPDATE, config), await stage.run(UPDATE, config, attempt=2)
    assert first.output == second.output
    assert second.lead["fields"]["budget"] == "5001"
    assert len(await stage.events()) == 1


async def test_parallel_attempts_of_one_step_change_once(stage: Stage):
    config = {"set": {"budget": 1}, "mode": "increment"}
    await asyncio.gather(*(stage.run(UPDATE, config) for _ in range(5)))
    assert (await stage.scope())["lead"]["fields"]["budget"] == "5001"
    assert len(await stage.events()) == 1


async def test_parallel_steps_add_to_what_is_there(stage: Stage):
    config = {"set": {"budget": 1}, "mode": "increment"}
    await asyncio.gather(*(stage.run(UPDATE, config, visit=visit) for visit in range(1, 6)))
    assert (await stage.scope())["lead"]["fields"]["budget"] == "5005"


@pytest.mark.parametrize(
    ("mode", "values", "fields"),
    [
        ("overwrite", {"budget": 1, "notes": "hi"}, {"budget": "1", "notes": "hi"}),
        ("overwrite", {"budget": None}, {"budget": None}),
        ("if_empty", {"budget": 1, "notes": "hi"}, {"budget": "5000", "notes": "hi"}),
        ("append", {"notes": "hi"}, {"budget": "5000", "notes": "hi"}),
        ("increment", {"budget": "$250.50"}, {"budget": "5250.5"}),
    ],
)
async def test_a_mode_says_how_new_meets_old(stage: Stage, mode: str, values: Any, fields: Any):
    outcome = await stage.run(UPDATE, {"set": values, "mode": mode})
    assert outcome.lead["fields"] == fields


async def test_appending_goes_behind_what_is_there(stage: Stage):
    await stage.run(UPDATE, {"set": {"notes": "first"}})
    outcome = await stage.run(UPDATE, {"set": {"notes": "second"}, "mode": "append"}, visit=2)
    assert outcome.lead["fields"]["notes"] == "first, second"


async def test_what_is_so_already_is_no_change(stage: Stage):
    outcome = await stage.run(UPDATE, {"set": {"first_name": "Ada", "budget": "5000"}})
    assert outcome.output == {"changed": []}
    assert await stage.events() == []


@pytest.mark.parametrize(
    ("values", "mode", "type_", "names"),
    [
        ({"colour": "red"}, "overwrite", "unknown_field", "set.colour"),
        ({"status": "WON"}, "overwrite", "unknown_field", "ACTION_SET_LEAD_STATUS"),
        ({"id": "x"}, "overwrite", "unknown_field", "set.id"),
        ({"budget": "lots"}, "overwrite", "invalid_value", "set.budget"),
        ({"budget": "lots"}, "increment", "not_a_number", "set.budget"),
        ({"timezone": "Mars/Olympus"}, "overwrite", "invalid_value", "set.timezone"),
        ({"email": "nobody"}, "overwrite", "invalid_value", "set.email"),
        ({"email": "a@example.com"}, "append", "bad_mode", "set.email"),
        ({"company": {"a": 1}}, "overwrite", "invalid_value", "set.company"),
        ({"company": "a\0b"}, "overwrite", "invalid_value", "set.company"),
        ({"company": "{{ trigger.nothing }}"}, "overwrite", "template_error", "trigger.nothing"),
    ],
)
async def test_a_bad_value_fails_and_names_its_field(
    stage: Stage, values: Any, mode: str, type_: str, names: str
):
    failure = await stage.fail(UPDATE, {"set": {**values, "first_name": "Changed"}, "mode": mode})
    assert failure.type == type_
    assert failure.non_retryable
    assert names in failure.message
    assert (await stage.lead()).first_name == "Ada"
    assert await stage.effects() == {}


async def test_an_address_is_changed_unless_another_lead_has_it(stage: Stage):
    outcome = await stage.run(UPDATE, {"set": {"email": "  Ada@Lovelace.example.com "}})
    assert outcome.lead["email"] == "ada@lovelace.example.com"
    key = {"workspace_id": stage.place.workspace_id, "workflow_id": stage.place.workflow_id}
    async with stage.database.workspace(stage.place.workspace_id) as session:
        session.add(Lead(**key, id=uuid7(), email="bob@example.com"))
    failure = await stage.fail(UPDATE, {"set": {"email": "bob@example.com"}}, visit=2)
    assert failure.type == "email_taken"


async def test_a_status_is_set_once_and_told(stage: Stage):
    config = {"status": "QUALIFIED"}
    first, second = await stage.run(STATUS, config), await stage.run(STATUS, config, attempt=2)
    assert first.handles == second.handles == ("default",)
    assert first.output == second.output == {"changed": True, "from": "NEW", "to": "QUALIFIED"}
    assert first.lead["status"] == "QUALIFIED"
    assert await stage.events() == [("STATUS_CHANGED", {"from": "NEW", "to": "QUALIFIED"})]


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"status": "NEW"}, "already"), ({"status": "WON", "allowedFrom": ["CONTACTED"]}, "not_allowed")],
)
async def test_a_status_that_stays_leaves_by_unchanged(stage: Stage, config: Any, reason: str):
    outcome = await stage.run(STATUS, config)
    assert outcome.handles == ("unchanged",)
    assert outcome.output["reason"] == reason
    assert await stage.events() == []


async def test_a_conflict_can_fail_the_step(stage: Stage):
    config = {"status": "WON", "allowedFrom": ["CONTACTED"], "onConflict": "fail"}
    failure = await stage.fail(STATUS, config)
    assert failure.type == "status_conflict"
    assert failure.non_retryable
    assert (await stage.lead()).status == "NEW"


async def test_of_parallel_moves_from_one_status_one_wins(stage: Stage):
    config = {"status": "CONTACTED", "allowedFrom": ["NEW"]}
    outcomes = await asyncio.gather(*(stage.run(STATUS, config, visit=visit) for visit in range(1, 6)))
    assert [outcome.handles for outcome in outcomes].count(("default",)) == 1
    assert len(await stage.events()) == 1


@pytest.mark.parametrize("status", ["{{ trigger.space }}", "x" * 101])
async def test_a_status_must_be_one(stage: Stage, status: str):
    stage.trigger["space"] = "  "
    assert (await stage.fail(STATUS, {"status": status})).type == "bad_status"


async def test_an_event_is_added_once_with_its_run(stage: Stage):
    config = {
        "eventType": "OFFER_SENT",
        "description": "For {{ lead.name }}",
        "metadata": {"budget": "{{ trigger.budget }}"},
    }
    first, second = await stage.run(EVENT, config), await stage.run(EVENT, config, attempt=2)
    assert first.output == second.output
    (event,) = await stage.events()
    assert event == ("OFFER_SENT", {"budget": "$5000"})


@pytest.mark.parametrize(
    ("node_type", "config"),
    [(UPDATE, {"set": {"company": "x"}}), (STATUS, {"status": "WON"}), (EVENT, {"eventType": "X"})],
)
async def test_without_a_lead_the_step_fails(stage: Stage, node_type: str, config: Any):
    failure = await stage.fail(node_type, config, lead_id=None)
    assert (failure.type, failure.non_retryable) == ("no_lead", True)
    failure = await stage.fail(node_type, config, lead_id=uuid7())
    assert (failure.type, failure.non_retryable) == ("lead_gone", True)
    assert await stage.effects() == {}


async def test_another_workspaces_lead_is_out_of_reach(stage: Stage):
    failure = await stage.fail(STATUS, {"status": "WON"}, workspace_id=uuid7())
    assert failure.type in ("lead_gone", "error")
    assert (await stage.lead()).status == "NEW"
