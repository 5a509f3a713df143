"""A webhook's message is written once, for whoever is to have it, together with its record."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import select, update
from uuid_utils.compat import uuid7

from db import effects, endpoints, webhooks
from db.effects import EffectKey
from db.models import WebhookDelivery, WebhookEndpoint
from db.session import Database
from db.webhooks import Message
from tests.db.conftest import Place, queued

pytestmark = pytest.mark.anyio

MESSAGE = Message("msg_1", "lead.won", {"type": "lead.won"}, '{"type":"lead.won"}')


@pytest.fixture
async def key(database: Database, here: Place) -> EffectKey:
    execution = queued(here)
    async with database.workspace(here.workspace_id) as session:
        session.add(execution)
    return EffectKey(here.workspace_id, execution.id, "hook", 1, "webhook")


async def subscribe(database: Database, place: Place, *, count: int = 1) -> list[UUID]:
    given = {"url": "https://a.example/hook", "subscribed_events": ["lead.*"]}
    async with database.workspace(place.workspace_id) as session:
        made = [
            await endpoints.create(session, place.workspace_id, given, key=bytes(32)) for _ in range(count)
        ]
    return [each.endpoint.id for each in made]


async def post(database: Database, key: EffectKey, *named: UUID) -> list[tuple[UUID, bool]] | None:
    """Return each endpoint that has a row, and whether its attempt is this caller's to make."""
    found = await webhooks.post_once(database, key, MESSAGE, endpoint_ids=named or None, by="me")
    return None if found is None else [(each, claim is not None) for each, claim in found.items()]


async def rows(database: Database, key: EffectKey) -> list[tuple[UUID, str, str | None]]:
    async with database.workspace(key.workspace_id) as session:
        columns = WebhookDelivery.webhook_endpoint_id, WebhookDelivery.status, WebhookDelivery.error
        found = await session.execute(select(*columns).order_by(WebhookDelivery.webhook_endpoint_id))
        return [(row[0], row[1], row[2]) for row in found]


async def test_of_parallel_attempts_one_posts(database: Database, here: Place, key: EffectKey):
    ids = await subscribe(database, here, count=3)
    answers = await asyncio.gather(*(post(database, key) for _ in range(5)))
    assert [each for each in answers if each is not None] == [[(each, True) for each in ids]]
    assert await rows(database, key) == [(each, "pending", None) for each in ids]
    async with database.workspace(key.workspace_id) as session:
        recorded = await effects.reserve(session, key)
    output = {"message_id": "msg_1", "endpoints": [str(each) for each in ids]}
    assert recorded == effects.Reservation("confirmed", output)


async def test_a_claim_names_its_own_row(database: Database, here: Place, key: EffectKey):
    await subscribe(database, here, count=3)
    claims = await webhooks.post_once(database, key, MESSAGE, endpoint_ids=None, by="me")
    assert claims is not None
    async with database.workspace(key.workspace_id) as session:
        for endpoint_id, claim in claims.items():
            assert claim is not None
            row = await session.get(WebhookDelivery, claim.delivery_id)
            assert row is not None
            assert (row.webhook_endpoint_id, row.locked_by, row.body) == (endpoint_id, "me", MESSAGE.body)


async def test_nobody_to_post_to_is_recorded_too(database: Database, here: Place, key: EffectKey):
    assert await post(database, key) == []
    assert await post(database, key) is None


async def test_a_disabled_endpoints_row_is_cancelled_and_says_why(
    database: Database, here: Place, key: EffectKey
):
    (endpoint_id,) = await subscribe(database, here)
    async with database.workspace(here.workspace_id) as session:
        await session.execute(update(WebhookEndpoint).values(is_enabled=False, disabled_reason="gone"))
    assert await post(database, key) == [(endpoint_id, False)]
    assert await rows(database, key) == [(endpoint_id, "cancelled", "endpoint_disabled: gone")]


async def test_what_one_statement_cannot_do_it_leaves_alone(database: Database, here: Place, key: EffectKey):
    ids = await subscribe(database, here, count=webhooks.MOST_AT_ONCE)
    assert await post(database, key, ids[0], uuid7()) is None
    ids += await subscribe(database, here)
    assert await post(database, key) is None
    assert await rows(database, key) == []
    assert await post(database, key, ids[0], ids[0], ids[1]) == [(ids[0], True), (ids[1], True)]
