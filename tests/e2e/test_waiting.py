"""Waiting: what happens to a lead wakes its runs, and a run that slept knows the lead as it is by then."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from activities.clients.runs import workflow_id_of
from db import leads
from tests.e2e.graphs import chain, node
from tests.e2e.house import EMAIL, House, ok
from workflows.messages import Heard

pytestmark = pytest.mark.anyio

NAME = {"field_key": "first_name", "label": "First name", "field_type": "TEXT"}
GREETING = "Hi {{ lead.name }}"


def form() -> dict[str, Any]:
    return node("form", "TRIGGER_FORM", "Form")


def wait(*types: str, **config: Any) -> dict[str, Any]:
    """Wait for the first of these events, or as the config says."""
    events = [{"id": type_.lower(), "type": type_} for type_ in types]
    return node("wait", "LOGIC_WAIT_FOR_EVENT", **{"events": events, "timeout": "P14D", **config})


def greet(id_: str) -> dict[str, Any]:
    return node(id_, "UTILITY_LOG", message=GREETING)


async def waiting(house: House, execution_id: UUID, node_id: str = "wait") -> str:
    """Wait until a run waits at a node; return its lead."""
    await house.until_step(execution_id, node_id, "running")
    run = await house.until(execution_id, lambda run: run["status"] == "waiting")
    lead_id: str = run["lead_id"]
    return lead_id


async def happens(house: House, lead_id: str, event_type: str) -> None:
    async with house.database.workspace(house.workspace_id) as session:
        await leads.add_event(session, house.workspace_id, UUID(lead_id), event_type)


async def rename(house: House, lead_id: str, name: str) -> None:
    await ok(house.api.patch(f"/v1/leads/{lead_id}", json={"first_name": name}))


async def test_whatever_happens_to_a_lead_wakes_the_run_that_waits_for_it(house: House):
    moved = node("moved", "TRIGGER_LEAD_STATUS_CHANGED", toStatus=["WON"])
    await house.workflow(
        chain(moved, node("note", "ACTION_ADD_LEAD_EVENT", eventType="CALLED")), name="Other"
    )
    workflow = await house.workflow(
        chain(
            form(),
            wait("STATUS_CHANGED", "CALLED", "FORM_SUBMITTED", "MET", mode="all"),
        )
    )
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    lead_id = await waiting(house, execution_id)

    await ok(house.api.patch(f"/v1/leads/{lead_id}", json={"status": "WON"}))
    await happens(house, lead_id, "MET")
    answers = {"email": "ada@example.com"}
    again = {"Idempotency-Key": "again"}
    await ok(house.public.post(f"/f/{house.slug}/{workflow['slug']}", json=answers, headers=again))

    assert (await house.ended(execution_id))["status"] == "completed"
    output = (await house.steps(execution_id))["wait"]["output_data"]
    assert set(output["events"]) == {"status_changed", "called", "form_submitted", "met"}
    assert output["events"]["status_changed"]["data"]["to"] == "WON"
    # They go once they are carried, which the run's end need not wait for.
    async with asyncio.timeout(15):
        while await house.rows("SELECT * FROM event_wakes"):
            await asyncio.sleep(0.1)


async def test_after_each_kind_of_wait_the_lead_is_known_as_it_is_by_then(house: House):
    workflow = await house.workflow(
        chain(
            form(),
            node("nap", "LOGIC_DELAY", duration="PT3S"),
            greet("rested"),
            wait("MET"),
            greet("met"),
            node("ask", "LOGIC_APPROVAL", message=GREETING),
            greet("approved"),
        ),
        fields=(EMAIL, NAME),
    )
    execution_id = await house.submit(workflow, {"email": "ada@example.com", "first_name": "Ada"})
    lead_id = await waiting(house, execution_id, "nap")
    await rename(house, lead_id, "Beth")
    await waiting(house, execution_id)
    await rename(house, lead_id, "Cora")
    await happens(house, lead_id, "MET")
    await waiting(house, execution_id, "ask")
    await rename(house, lead_id, "Dora")
    decision = {"step": (await house.steps(execution_id))["ask"]["id"], "approved": True}
    await ok(house.api.post(f"/v1/executions/{execution_id}/approvals", json=decision))

    assert (await house.ended(execution_id))["status"] == "completed"
    steps = await house.steps(execution_id)
    said = {name: steps[name]["input_data"]["message"] for name in ("rested", "met", "ask", "approved")}
    assert said == {"rested": "Hi Beth", "met": "Hi Cora", "ask": "Hi Dora", "approved": "Hi Dora"}


async def test_of_two_events_at_once_the_earlier_wins_and_one_before_the_wait_counts(house: House):
    workflow = await house.workflow(
        chain(
            form(),
            node("nap", "LOGIC_DELAY", duration="PT2S"),
            wait("EARLY", "NEVER"),
            node(
                "race",
                "LOGIC_WAIT_FOR_EVENT",
                events=[
                    {"id": "b", "type": "B"},
                    {"id": "a", "type": "A"},
                ],
                lookback="node_start",
                timeout="PT20S",
            ),
        )
    )
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    lead_id = await waiting(house, execution_id, "nap")
    for type_ in ("EARLY", "A", "B"):
        await happens(house, lead_id, type_)
    await waiting(house, execution_id, "race")
    await asyncio.gather(*(happens(house, lead_id, type_) for type_ in ("A", "B")))

    assert (await house.ended(execution_id))["status"] == "completed"
    steps = await house.steps(execution_id)
    assert steps["wait"]["handle"] == "event_early"
    first = await house.rows(
        "SELECT event_type FROM lead_events WHERE event_type IN ('A', 'B') ORDER BY created_at DESC, id DESC"
    )
    race = steps["race"]["output_data"]
    assert steps["race"]["handle"] == f"event_{first[1]['event_type'].lower()}"
    assert len(race["events"]) == 1


async def test_an_event_that_somebody_sends_by_hand_counts_whatever_it_is_called(house: House):
    workflow = await house.workflow(chain(form(), wait("CALLED")))
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await waiting(house, execution_id)

    run = house.temporal.get_workflow_handle(workflow_id_of(execution_id))
    await run.signal("event", Heard(type="CALLED", at=datetime.now(UTC), id="by hand"))

    assert (await house.ended(execution_id))["status"] == "completed"
    assert set((await house.steps(execution_id))["wait"]["output_data"]["events"]) == {"called"}
