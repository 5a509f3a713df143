"""Payloads that are too large for Temporal's histories, as they are encrypted (ADR 0023)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from db.session import fetch

# By a row of its own, whose deletion takes them along: a run without one has no place for them.
HAS_ROW = "SELECT 1 FROM workflow_executions WHERE workspace_id = %(workspace_id)s AND id = %(execution_id)s"
STORE = """
    INSERT INTO payload_blobs (workspace_id, execution_id, address, content)
    VALUES (%(workspace_id)s, %(execution_id)s, %(address)s, %(content)s) ON CONFLICT DO NOTHING"""
LOAD = """
    SELECT execution_id, address, content FROM payload_blobs
    WHERE workspace_id = %(workspace_id)s
      AND (execution_id, address) IN (SELECT * FROM unnest(%(executions)s::uuid[], %(addresses)s::bytea[]))"""
FORGET = (
    "DELETE FROM payload_blobs WHERE workspace_id = %(workspace_id)s AND execution_id = ANY(%(executions)s)"
)


@dataclass(frozen=True)
class Place:
    """Where a blob lies within its workspace."""

    execution_id: UUID
    address: bytes


@dataclass(frozen=True)
class Ended:
    """An execution that is over and has blobs."""

    workspace_id: UUID
    execution_id: UUID


@dataclass(frozen=True)
class Totals:
    """How much lies there, of all workspaces."""

    blobs: int
    bytes: int


async def store(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, contents: Mapping[bytes, bytes]
) -> bool:
    """Store contents under their addresses, if they are not there; False if there is no such execution."""
    of = {"workspace_id": workspace_id, "execution_id": execution_id}
    if not await fetch(session, HAS_ROW, of):
        return False
    for address, content in contents.items():
        await fetch(session, STORE, {**of, "address": address, "content": content})
    return True


async def load(session: AsyncSession, workspace_id: UUID, places: Sequence[Place]) -> dict[Place, bytes]:
    """Read what lies at these places; what is not there is left out."""
    values = {
        "workspace_id": workspace_id,
        "executions": [place.execution_id for place in places],
        "addresses": [place.address for place in places],
    }
    rows = await fetch(session, LOAD, values)
    return {Place(execution_id, address): content for execution_id, address, content in rows}


async def forget(session: AsyncSession, workspace_id: UUID, execution_ids: Sequence[UUID]) -> None:
    """Delete all that executions have there: nothing must name it any more."""
    await fetch(session, FORGET, {"workspace_id": workspace_id, "executions": list(execution_ids)})


async def ended(session: AsyncSession, *, over_for: timedelta, after: UUID | None, limit: int) -> list[Ended]:
    """List executions that have been over for so long and still have blobs, by id. Runs in a door."""
    values = {"over_for": over_for, "after": after or UUID(int=0), "limit": limit}
    rows = await session.execute(
        text("SELECT * FROM door_ended_with_blobs(:over_for, :after, :limit)"), values
    )
    return [Ended(**row) for row in rows.mappings()]


async def totals(session: AsyncSession) -> Totals:
    """Count what lies there. Runs in a door."""
    row = (await session.execute(text("SELECT * FROM door_blob_totals()"))).one()
    return Totals(row.blobs, row.bytes)
