"""A mail is confirmed, counted and told once, however often its confirmation is repeated."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, update
from uuid_utils.compat import uuid7

from db import effects, leads, mails
from db.effects import EffectKey
from db.models import Effect, Lead, LeadEvent, UsageEvent
from db.session import Database
from tests.db.conftest import Place, queued

pytestmark = pytest.mark.anyio


@pytest.fixture
async def key(database: Database, here: Place) -> EffectKey:
    execution = queued(here)
    async with database.workspace(here.workspace_id) as session:
        session.add(execution)
        await session.flush()
        key = EffectKey(here.workspace_id, execution.id, "mail", 1, "email")
        await effects.reserve(session, key)
    return key


async def seen(database: Database, key: EffectKey) -> tuple[list[str], list[tuple[str, str | None, bool]]]:
    async with database.workspace(key.workspace_id) as session:
        events = await session.scalars(select(LeadEvent.event_type))
        uses = await session.scalars(select(UsageEvent))
        return list(events), [(use.event_type, use.related_resource_id, use.is_billable) for use in uses]


async def event_of(database: Database, place: Place) -> dict[str, Any]:
    key = {"workspace_id": place.workspace_id, "workflow_id": place.workflow_id}
    lead = Lead(**key, id=uuid7(), email="ada@example.com", status="NEW")
    async with database.workspace(place.workspace_id) as session:
        session.add(lead)
    return leads.event_of(place.workspace_id, lead.id, "EMAIL_SENT")


async def test_parallel_confirmations_are_one(database: Database, here: Place, key: EffectKey):
    event, output = await event_of(database, here), {"status": "sent"}
    answers = await asyncio.gather(*(mails.confirm(database, key, output, event) for _ in range(4)))
    assert sorted(answers) == [False] * 3 + [True]
    assert await seen(database, key) == (["EMAIL_SENT"], [("email_sent", str(key.execution_id), True)])
    async with database.workspace(key.workspace_id) as session:
        assert await effects.reserve(session, key) == effects.Reservation("confirmed", output)


@pytest.mark.parametrize(("state", "confirmed"), [("unknown", True), ("released", False)])
async def test_a_mail_in_doubt_is_confirmed_and_one_given_back_is_not(
    database: Database, key: EffectKey, state: str, confirmed: bool
):
    async with database.workspace(key.workspace_id) as session:
        await session.execute(update(Effect).values(status=state))
    assert await mails.confirm(database, key, {}, None) is confirmed
    assert await seen(database, key) == ([], [("email_sent", str(key.execution_id), True)] * confirmed)
