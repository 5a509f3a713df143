"""A change of a lead that is made, told and recorded at once: once under its key, or not at all."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from uuid_utils.compat import uuid7

from db import changes, effects, leads
from db.changes import Changed, Seen
from db.effects import EffectKey
from db.models import Effect, FormField, Lead, LeadEvent, Workflow
from db.session import Database
from tests.db.conftest import Place, queued

pytestmark = pytest.mark.anyio

EVENT = "STATUS_CHANGED"


@pytest.fixture
async def lead_id(database: Database, here: Place) -> UUID:
    lead = Lead(
        workspace_id=here.workspace_id,
        workflow_id=here.workflow_id,
        id=uuid7(),
        email="ada@example.com",
        status="NEW",
    )
    async with database.workspace(here.workspace_id) as session:
        session.add(lead)
    return lead.id


@pytest.fixture
async def key(database: Database, here: Place) -> EffectKey:
    execution = queued(here)
    async with database.workspace(here.workspace_id) as session:
        session.add(execution)
    return EffectKey(here.workspace_id, execution.id, "node", 1, "effect")


def other(key: EffectKey, visit: int) -> EffectKey:
    return EffectKey(**{**key.values, "visit": visit})


async def move(
    database: Database, key: EffectKey, lead_id: UUID, status: str, *allowed: str
) -> dict[str, Any] | None:
    moved = await changes.move(database, key, lead_id, status, allowed_from=allowed, event_type=EVENT)
    assert moved is None or moved.lead is not None
    return None if moved is None else moved.output


async def tell(database: Database, key: EffectKey, lead_id: UUID) -> bool:
    event = leads.event_of(key.workspace_id, lead_id, "CALLED", execution_id=key.execution_id)
    return await changes.tell(database, key, lead_id, {"event_id": str(event["event_id"])}, event)


async def history(database: Database, key: EffectKey) -> list[tuple[str, str | None, dict[str, Any], Any]]:
    async with database.workspace(key.workspace_id) as session:
        rows = (await session.execute(select(LeadEvent).order_by(LeadEvent.id))).scalars()
        return [
            (row.event_type, row.description, row.event_metadata, row.triggered_by_workflow_execution_id)
            for row in rows
        ]


async def known(database: Database, key: EffectKey) -> int:
    async with database.workspace(key.workspace_id) as session:
        return await session.scalar(select(func.count()).select_from(Effect)) or 0


async def status_of(database: Database, key: EffectKey) -> str:
    async with database.workspace(key.workspace_id) as session:
        return str(await session.scalar(select(Lead.status)))


async def test_a_move_is_made_told_recorded_and_shown(database: Database, key: EffectKey, lead_id: UUID):
    moved = await changes.move(database, key, lead_id, "WON", allowed_from=["NEW"], event_type=EVENT)
    assert isinstance(moved, Changed)
    assert moved.output == {"changed": True, "from": "NEW", "to": "WON"}
    assert moved.lead is not None
    assert (moved.lead["status"], moved.lead["events"]) == ("WON", [EVENT])
    assert await history(database, key) == [
        (EVENT, "NEW → WON", {"from": "NEW", "to": "WON"}, key.execution_id)
    ]
    async with database.workspace(key.workspace_id) as session:
        assert await effects.reserve(session, key) == effects.Reservation("confirmed", moved.output)


async def test_a_status_that_the_lead_has_is_recorded_and_not_told(
    database: Database, key: EffectKey, lead_id: UUID
):
    assert await move(database, key, lead_id, "NEW", "LOST") == {
        "changed": False,
        "from": "NEW",
        "to": "NEW",
        "reason": "already",
    }
    assert (await history(database, key), await known(database, key)) == ([], 1)


@pytest.mark.parametrize("state", ["reserved", "confirmed", "unknown", "released"])
async def test_where_the_key_is_known_nothing_is_done(
    database: Database, key: EffectKey, lead_id: UUID, state: str
):
    async with database.workspace(key.workspace_id) as session:
        await effects.reserve(session, key)
        await session.execute(update(Effect).values(status=state))
    assert await move(database, key, lead_id, "WON") is None
    assert not await tell(database, key, lead_id)
    assert await history(database, key) == []


async def test_where_the_lead_is_gone_or_another_workspaces_nothing_is_done(
    database: Database, key: EffectKey, lead_id: UUID, there: Place
):
    run = queued(there)
    async with database.workspace(there.workspace_id) as session:
        session.add(run)
    foreign = EffectKey(there.workspace_id, run.id, "node", 1, "effect")
    async with database.workspace(key.workspace_id) as session:
        await leads.remove(session, key.workspace_id, lead_id)
    for whose in (key, foreign):
        assert await move(database, whose, lead_id, "WON") is None
        assert not await tell(database, whose, lead_id)
        assert await known(database, whose) == 0


async def test_what_is_not_allowed_and_what_others_react_to_takes_a_closer_look(
    database: Database, key: EffectKey, lead_id: UUID
):
    assert await move(database, key, lead_id, "WON", "LOST") is None
    async with database.workspace(key.workspace_id) as session:
        await session.execute(update(Workflow).values(trigger_type="TRIGGER_LEAD_STATUS_CHANGED"))
    assert await move(database, key, lead_id, "WON") is None
    assert await known(database, key) == 0


async def test_of_parallel_attempts_one_makes_it(database: Database, key: EffectKey, lead_id: UUID):
    moved = await asyncio.gather(*(move(database, key, lead_id, "WON") for _ in range(6)))
    assert [each for each in moved if each] == [{"changed": True, "from": "NEW", "to": "WON"}]
    told = await asyncio.gather(*(tell(database, other(key, 2), lead_id) for _ in range(6)))
    assert sorted(told) == [False] * 5 + [True]
    assert [event for event, *_ in await history(database, key)] == [EVENT, "CALLED"]


async def test_parallel_moves_follow_each_other(database: Database, key: EffectKey, lead_id: UUID):
    statuses = ["A", "B", "C", "D", "E", "F"]
    moves = (move(database, other(key, n), lead_id, status) for n, status in enumerate(statuses, start=2))
    outputs = [each for each in await asyncio.gather(*moves) if each]
    assert len(outputs) == len(statuses)
    came_from = {each["to"]: each["from"] for each in outputs}
    # A chain from NEW to the status that the lead has now: nobody left from where another had left before.
    chain, last = [], await status_of(database, key)
    while last != "NEW":
        chain.append(last)
        last = came_from[last]
    assert sorted(chain) == statuses


async def test_a_change_is_written_if_the_lead_still_is_as_it_was_seen(
    database: Database, here: Place, key: EffectKey, lead_id: UUID
):
    field = {"workspace_id": here.workspace_id, "workflow_id": here.workflow_id, "field_key": "budget"}
    async with database.workspace(here.workspace_id) as session:
        session.add(FormField(**field, id=uuid7(), label="Budget", field_type="NUMBER"))

    async def write(visit: int, seen: Seen, **answers: str) -> bool:
        changed = await changes.write(
            database,
            other(key, visit),
            lead_id,
            seen,
            columns={"company": None if visit == 2 else f"C{visit}"},
            answers=answers,
            output={"changed": []},
            event=leads.event_of(here.workspace_id, lead_id, "LEAD_UPDATED"),
        )
        assert changed is None or changed.lead is not None
        return changed is not None

    seen = await changes.look(database, here.workspace_id, lead_id, ["budget", "unknown"])
    assert seen is not None
    assert (seen.held.lead.email, seen.held.answers, list(seen.held.fields)) == (
        "ada@example.com",
        {},
        ["budget"],
    )
    assert await write(2, seen, budget="7", unknown="x")
    # An answer has changed since, although the lead's own row has not.
    assert not await write(3, seen, budget="8")
    again = await changes.look(database, here.workspace_id, lead_id, ["budget"])
    assert again is not None
    assert again.held.answers == {"budget": "7"}
    assert await write(3, again)
    assert not await write(4, again)
    assert not await write(3, again)
    assert len(await history(database, key)) == 2
