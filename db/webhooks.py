"""Webhook messages and their delivery: a row for every attempt, claimed by one worker at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    case,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from uuid_utils.compat import uuid7

from db import effects
from db.effects import EffectKey
from db.models import WebhookDelivery, WebhookEndpoint
from db.session import Database, Single, fetch

CLAIM = timedelta(seconds=30)
"""How long a claimed attempt is its worker's alone: longer than any request may take."""


PATIENCE = timedelta(hours=120)
GIVEN_UP = 10

_ENDPOINTS: LiteralString = """
    SELECT is_enabled, disabled_reason, id, url, headers, secret_sealed, previous_secret_sealed,
        previous_secret_expires_at, max_attempts
    FROM webhook_endpoints WHERE workspace_id = %(workspace_id)s
"""
SUBSCRIBED: LiteralString = f"{_ENDPOINTS} AND subscribed_events && %(patterns)s::text[] ORDER BY id"
NAMED: LiteralString = f"{_ENDPOINTS} AND id = ANY(%(ids)s::uuid[]) ORDER BY id"
FIRST_ATTEMPT = """
    INSERT INTO webhook_deliveries (workspace_id, id, webhook_endpoint_id, message_id, execution_id,
        event_type, payload, body, status, error, locked_by, attempted_at, lock_acquired_at)
    VALUES (%(workspace_id)s, %(id)s, %(webhook_endpoint_id)s, %(message_id)s, %(execution_id)s,
        %(event_type)s, %(payload)s, %(body)s, %(status)s, %(error)s, %(locked_by)s,
        CASE WHEN %(locked_by)s::text IS NOT NULL THEN now() END,
        CASE WHEN %(locked_by)s::text IS NOT NULL THEN now() END)
"""
MOST_AT_ONCE = 8
"""Endpoints that one statement writes a message for; where there are more, each has its own."""
_POST: LiteralString = f"""
    key AS (
        {effects.CONFIRMED} jsonb_build_object('message_id', %(message_id)s::text,
            'endpoints', coalesce((SELECT jsonb_agg(id ORDER BY id) FROM found), '[]'))
        WHERE {effects.UNKNOWN}
            AND (SELECT count(*) FROM found) BETWEEN %(fewest)s AND cardinality(%(delivery_ids)s::uuid[])
        {effects.UNLESS_KNOWN} RETURNING 1),
    numbered AS (SELECT found.*, row_number() OVER (ORDER BY id) AS number FROM found),
    posted AS (
        INSERT INTO webhook_deliveries (workspace_id, id, webhook_endpoint_id, message_id, execution_id,
            event_type, payload, body, status, error, locked_by, attempted_at, lock_acquired_at)
        SELECT %(workspace_id)s, (%(delivery_ids)s::uuid[])[number], id, %(message_id)s, %(execution_id)s,
            %(event_type)s, %(payload)s, %(body)s,
            CASE WHEN is_enabled THEN 'pending' ELSE 'cancelled' END,
            CASE WHEN NOT is_enabled THEN 'endpoint_disabled: ' || coalesce(disabled_reason, 'by hand') END,
            CASE WHEN is_enabled THEN %(locked_by)s END,
            CASE WHEN is_enabled THEN now() END, CASE WHEN is_enabled THEN now() END
        FROM numbered, key)
    SELECT n.is_enabled, n.disabled_reason, n.id, n.url, n.headers, n.secret_sealed, n.previous_secret_sealed,
        n.previous_secret_expires_at, n.max_attempts
    FROM key LEFT JOIN numbered n ON true ORDER BY n.id
"""
POST_TO_SUBSCRIBED = f"WITH found AS ({SUBSCRIBED}), {_POST}"
POST_TO_NAMED = f"WITH found AS ({NAMED}), {_POST}"
SETTLE = """
    UPDATE webhook_deliveries SET status = %(status)s, http_status_code = %(http_status)s,
        response_body = %(response_body)s, error = %(error)s, duration_ms = %(duration_ms)s,
        body = CASE WHEN %(status)s::text <> 'delivered' THEN body END, locked_by = NULL,
        lock_acquired_at = NULL, updated_at = now()
    WHERE workspace_id = %(workspace_id)s AND id = %(id)s AND status = 'pending' AND locked_by = %(locked_by)s
    RETURNING id
"""
AGAIN = """
    INSERT INTO webhook_deliveries (workspace_id, id, webhook_endpoint_id, message_id, execution_id,
        event_type, payload, body, attempt_number, scheduled_at)
    SELECT workspace_id, %(next_id)s, webhook_endpoint_id, message_id, execution_id, event_type, payload,
        body, attempt_number + 1, now() + %(after)s
    FROM webhook_deliveries WHERE workspace_id = %(workspace_id)s AND id = %(id)s
"""


@dataclass(frozen=True)
class Message:
    """One event as it is sent: `body` holds the bytes that are signed."""

    id: str
    event_type: str
    payload: Mapping[str, Any]
    body: str
    execution_id: UUID | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where an attempt goes, and what it is signed with; secrets are sealed."""

    id: UUID
    url: str
    headers: Mapping[str, str]
    secret_sealed: bytes
    previous_secret_sealed: bytes | None
    previous_secret_expires_at: datetime | None
    max_attempts: int


@dataclass(frozen=True)
class Claim:
    """An attempt that this worker alone makes now."""

    delivery_id: UUID
    attempt: int
    body: str
    endpoint: Endpoint
    by: str
    """The claim's token: who lost the claim meanwhile has nothing to report."""


@dataclass(frozen=True)
class Standing:
    """How the delivery of one message to one endpoint stands: its latest attempt."""

    status: str
    attempt: int
    http_status: int | None = None
    error: str | None = None
    wait: float = 0
    """Seconds until the attempt may be claimed."""


@dataclass(frozen=True)
class Result:
    """What came of an attempt."""

    status: str
    http_status: int | None = None
    response_body: str | None = None
    error: str | None = None
    duration_ms: int | None = None


async def post(
    session: AsyncSession,
    workspace_id: UUID,
    message: Message,
    *,
    endpoint_ids: Sequence[UUID] | None = None,
    by: str | None = None,
) -> dict[UUID, Claim | None]:
    """Write a message's first attempt for each endpoint subscribed to it, or for those named.

    An endpoint that is disabled gets its row too, cancelled, so that it can be delivered later on request.
    With `by` the attempts are claimed from the start. Returns every endpoint that has a row now.
    """
    given = {"workspace_id": workspace_id, "patterns": patterns(message.event_type)}
    if endpoint_ids is None:
        found = await fetch(session, SUBSCRIBED, given)
    else:
        found = await fetch(session, NAMED, {"workspace_id": workspace_id, "ids": list(endpoint_ids)})
    claims: dict[UUID, Claim | None] = {}
    for is_enabled, reason, *columns in found:
        endpoint, held_by = Endpoint(*columns), by if is_enabled else None
        row = _first_attempt(workspace_id, message, endpoint.id, by=held_by)
        row |= {} if is_enabled else {"status": "cancelled", "error": _disabled(reason)}
        await fetch(session, FIRST_ATTEMPT, row)
        claims[endpoint.id] = Claim(row["id"], 1, message.body, endpoint, held_by) if held_by else None
    return claims


async def post_once(
    database: Database, key: EffectKey, message: Message, *, endpoint_ids: Sequence[UUID] | None, by: str
) -> dict[UUID, Claim | None] | None:
    """Post a message under its effect's key, in one message of ours; None where that takes a closer look.

    The effect is recorded as the message's id and its endpoints'.
    """
    ids = [uuid7() for _ in range(MOST_AT_ONCE)]
    row = _first_attempt(key.workspace_id, message, None, by=by)
    given = {**row, **key.values, "delivery_ids": ids}
    given |= {"patterns": patterns(message.event_type), "fewest": 0}
    if endpoint_ids is not None:
        given |= {"ids": list(endpoint_ids), "fewest": len(set(endpoint_ids))}
    statement = POST_TO_SUBSCRIBED if endpoint_ids is None else POST_TO_NAMED
    found = await fetch(database.single(key.workspace_id), statement, given)
    if not found:
        return None
    claims: dict[UUID, Claim | None] = {}
    for delivery_id, (is_enabled, _, endpoint_id, *columns) in zip(ids, found, strict=False):
        if endpoint_id is not None:
            endpoint = Endpoint(endpoint_id, *columns)
            claims[endpoint_id] = Claim(delivery_id, 1, message.body, endpoint, by) if is_enabled else None
    return claims


def patterns(event_type: str) -> list[str]:
    """Name every subscription that covers an event: itself, its families (`lead.*`) and `*`."""
    parts = event_type.split(".")
    families = [".".join(parts[:count]) + ".*" for count in range(len(parts) - 1, 0, -1)]
    return [event_type, *families, "*"]


def _first_attempt(
    workspace_id: UUID, message: Message, endpoint_id: UUID | None, *, by: str | None
) -> dict[str, Any]:
    return {
        "workspace_id": workspace_id,
        "id": uuid7(),
        "webhook_endpoint_id": endpoint_id,
        "message_id": message.id,
        "execution_id": message.execution_id,
        "event_type": message.event_type,
        "payload": dict(message.payload),
        "body": message.body,
        "status": "pending",
        "error": None,
        "locked_by": by,
    }


def _disabled(reason: str | None) -> str:
    return f"endpoint_disabled: {reason or 'by hand'}"


def _endpoint_columns() -> tuple[Any, ...]:
    """Name the columns of an Endpoint, in its order."""
    return (
        WebhookEndpoint.id,
        WebhookEndpoint.url,
        WebhookEndpoint.headers,
        WebhookEndpoint.secret_sealed,
        WebhookEndpoint.previous_secret_sealed,
        WebhookEndpoint.previous_secret_expires_at,
        WebhookEndpoint.max_attempts,
    )


async def claim(
    session: AsyncSession, workspace_id: UUID, endpoint_id: UUID, message_id: str, *, by: str
) -> Claim | None:
    """Take the pending attempt that is due, unless another worker has it; a dead worker's claim runs out."""
    free = or_(
        WebhookDelivery.lock_acquired_at.is_(None),
        WebhookDelivery.lock_acquired_at < func.now() - CLAIM,
    )
    taken = await session.execute(
        update(WebhookDelivery)
        .where(
            *_of(workspace_id, endpoint_id, message_id),
            WebhookDelivery.status == "pending",
            WebhookDelivery.scheduled_at <= func.now(),
            free,
            WebhookEndpoint.workspace_id == WebhookDelivery.workspace_id,
            WebhookEndpoint.id == WebhookDelivery.webhook_endpoint_id,
            WebhookEndpoint.is_enabled,
        )
        .values(lock_acquired_at=func.now(), locked_by=by, attempted_at=func.now())
        .returning(
            WebhookDelivery.id,
            WebhookDelivery.attempt_number,
            WebhookDelivery.body,
            *_endpoint_columns(),
        )
        .execution_options(synchronize_session=False)
    )
    row = taken.one_or_none()
    if row is None:
        return None
    delivery_id, attempt, body, *endpoint = row
    return Claim(delivery_id, attempt, body or "", Endpoint(*endpoint), by)


async def standing(
    session: AsyncSession, workspace_id: UUID, endpoint_id: UUID, message_id: str
) -> Standing | None:
    """Tell how a delivery stands; what was due for an endpoint disabled meanwhile is cancelled."""
    found = await session.execute(
        select(
            WebhookDelivery.status,
            WebhookDelivery.attempt_number,
            WebhookDelivery.http_status_code,
            WebhookDelivery.error,
            func.extract("epoch", _claimable_at() - func.now()),
            WebhookEndpoint.is_enabled,
            WebhookEndpoint.disabled_reason,
        )
        .join(
            WebhookEndpoint,
            (WebhookEndpoint.workspace_id == WebhookDelivery.workspace_id)
            & (WebhookEndpoint.id == WebhookDelivery.webhook_endpoint_id),
        )
        .where(*_of(workspace_id, endpoint_id, message_id))
        .order_by(WebhookDelivery.attempt_number.desc())
        .limit(1)
    )
    row = found.one_or_none()
    if row is None:
        return None
    status, attempt, http_status, error, wait, is_enabled, reason = row
    if status != "pending":
        return Standing(status, attempt, http_status, error)
    # An attempt under way is its worker's to settle.
    if not is_enabled and wait <= 0:
        error = _disabled(reason)
        await _cancel(session, workspace_id, endpoint_id, message_id, error=error)
        return Standing("cancelled", attempt, http_status, error)
    return Standing(status, attempt, http_status, error, wait=max(float(wait), 0))


def _claimable_at() -> ColumnElement[datetime]:
    held_until = WebhookDelivery.lock_acquired_at + CLAIM
    return func.greatest(
        WebhookDelivery.scheduled_at,
        case((WebhookDelivery.lock_acquired_at.is_not(None), held_until), else_=WebhookDelivery.scheduled_at),
    )


async def settle(
    session: AsyncSession | Single,
    workspace_id: UUID,
    claimed: Claim,
    result: Result,
    *,
    again_after: timedelta | None = None,
) -> bool:
    """Record what came of an attempt, and the next one if there is to be one; False if the claim was lost."""
    given = {
        "workspace_id": workspace_id,
        "id": claimed.delivery_id,
        "locked_by": claimed.by,
        "status": result.status,
        "http_status": result.http_status,
        "response_body": result.response_body,
        "error": result.error,
        "duration_ms": result.duration_ms,
    }
    if not await fetch(session, SETTLE, given):
        return False
    if again_after is not None:
        await fetch(session, AGAIN, {**given, "next_id": uuid7(), "after": again_after})
    return True


async def hopelessness(session: AsyncSession, workspace_id: UUID, endpoint_id: UUID) -> str | None:
    """Say why an endpoint should be disabled: five days of failures, or ten messages given up in a row."""
    mine = (
        WebhookDelivery.workspace_id == workspace_id,
        WebhookDelivery.webhook_endpoint_id == endpoint_id,
    )
    # By the ordered id, so that the index leads to the last success without reading all there ever was.
    success = select(WebhookDelivery.id).where(*mine, WebhookDelivery.status == "delivered")
    last_success = success.order_by(WebhookDelivery.id.desc()).limit(1).scalar_subquery()
    failed = (
        *mine,
        WebhookDelivery.status == "failed",
        WebhookDelivery.id > func.coalesce(last_success, UUID(int=0)),
    )
    later = aliased(WebhookDelivery)
    has_later = exists().where(
        later.workspace_id == workspace_id,
        later.webhook_endpoint_id == endpoint_id,
        later.message_id == WebhookDelivery.message_id,
        later.attempt_number > WebhookDelivery.attempt_number,
    )
    found = await session.execute(
        select(
            func.min(WebhookDelivery.attempted_at) < func.now() - PATIENCE,
            func.count().filter(~has_later) >= GIVEN_UP,
        ).where(*failed)
    )
    too_long, too_many = found.one()
    if too_long:
        return "failing_for_120_hours"
    return "10_messages_given_up" if too_many else None


async def disable(session: AsyncSession, workspace_id: UUID, endpoint_id: UUID, *, reason: str) -> bool:
    """Disable an endpoint; False if it was disabled already."""
    disabled = await session.execute(
        update(WebhookEndpoint)
        .where(
            WebhookEndpoint.workspace_id == workspace_id,
            WebhookEndpoint.id == endpoint_id,
            WebhookEndpoint.is_enabled,
        )
        .values(is_enabled=False, disabled_reason=reason)
        .returning(WebhookEndpoint.id)
    )
    return disabled.scalar_one_or_none() is not None


async def _cancel(
    session: AsyncSession, workspace_id: UUID, endpoint_id: UUID, message_id: str, *, error: str
) -> None:
    await session.execute(
        update(WebhookDelivery)
        .where(*_of(workspace_id, endpoint_id, message_id), WebhookDelivery.status == "pending")
        .values(status="cancelled", error=error)
        .execution_options(synchronize_session=False)
    )


def _of(workspace_id: UUID, endpoint_id: UUID, message_id: str) -> tuple[ColumnElement[bool], ...]:
    return (
        WebhookDelivery.workspace_id == workspace_id,
        WebhookDelivery.webhook_endpoint_id == endpoint_id,
        WebhookDelivery.message_id == message_id,
    )
