"""Answers kept for repeated POSTs, in the transaction of what they answered."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.errors import LockNotAvailable
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from db.models import IdempotencyKey

KEPT = timedelta(hours=24)


class InFlight(Exception):
    """The first request with this key has not finished."""


@dataclass(frozen=True)
class Answer:
    """What was answered, and to which request."""

    request_hash: bytes
    status: int
    body: str
    headers: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A key, within its scope, for one request."""

    scope: str
    key: str
    request_hash: bytes
    kept: timedelta = KEPT
    answer: Answer | None = None
    """An answer that is known before the work is done; it becomes visible with the commit."""


async def take(session: AsyncSession, workspace_id: UUID, claim: Claim) -> Answer | None:
    """Take a key for this transaction; return the stored answer if somebody had it before.

    A parallel claim waits here until the first one commits, and then gets its answer. An expired key is free.
    """
    statement = insert(IdempotencyKey).values(_row(workspace_id, claim))
    renewed = ("request_hash", "response_status", "response_body", "response_headers", "expires_at")
    statement = statement.on_conflict_do_update(
        constraint="idempotency_keys_pkey",
        set_={name: statement.excluded[name] for name in renewed},
        where=IdempotencyKey.expires_at < func.now(),
    )
    try:
        mine = (
            await session.execute(statement.returning(IdempotencyKey.idempotency_key))
        ).scalar_one_or_none()
    except DBAPIError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise InFlight from error
        raise
    return None if mine is not None else await find(session, workspace_id, scope=claim.scope, key=claim.key)


async def find(session: AsyncSession, workspace_id: UUID, *, scope: str, key: str) -> Answer:
    """Return the answer stored under a key that is taken; raise InFlight if there is none yet."""
    found = (
        await session.execute(
            select(
                IdempotencyKey.request_hash,
                IdempotencyKey.response_status,
                IdempotencyKey.response_body,
                IdempotencyKey.response_headers,
            ).where(
                IdempotencyKey.workspace_id == workspace_id,
                IdempotencyKey.scope == scope,
                IdempotencyKey.idempotency_key == key,
            )
        )
    ).one_or_none()
    if found is None or found.response_status is None:
        raise InFlight
    return Answer(
        found.request_hash, found.response_status, found.response_body or "", found.response_headers
    )


async def record(session: AsyncSession, workspace_id: UUID, claim: Claim, answer: Answer) -> None:
    """Keep the answer beside its effect; both commit or neither does."""
    await session.execute(
        update(IdempotencyKey)
        .where(
            IdempotencyKey.workspace_id == workspace_id,
            IdempotencyKey.scope == claim.scope,
            IdempotencyKey.idempotency_key == claim.key,
        )
        .values(response_status=answer.status, response_body=answer.body, response_headers=answer.headers)
    )


def _row(workspace_id: UUID, claim: Claim) -> dict[str, Any]:
    answer = claim.answer
    return {
        "workspace_id": workspace_id,
        "scope": claim.scope,
        "idempotency_key": claim.key,
        "request_hash": claim.request_hash,
        "response_status": answer.status if answer else None,
        "response_body": answer.body if answer else None,
        "response_headers": answer.headers if answer else {},
        "expires_at": func.now() + claim.kept,
    }
