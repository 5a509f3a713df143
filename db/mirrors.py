"""The mirror's place in an execution's history: one cursor per execution, moved by compare-and-set."""

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import delete, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession

from db.models import MirrorCursor
from db.session import driver_url

CHANNEL = "flowtrack_hints"
"""Where workers say that an execution moved on; the payload is its id."""


@dataclass(frozen=True)
class Position:
    """Up to which event of which run an execution is mirrored."""

    run_id: str
    event_id: int


@dataclass(frozen=True)
class Cursor:
    """Where the mirror stands, and what it needs to go on from there."""

    position: Position
    state: dict[str, Any]
    closed: bool


async def load(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Cursor | None:
    """Read an execution's cursor."""
    found = (
        await session.execute(
            select(MirrorCursor.run_id, MirrorCursor.last_event_id, MirrorCursor.state, MirrorCursor.closed)
            .where(MirrorCursor.workspace_id == workspace_id, MirrorCursor.execution_id == execution_id)
            .limit(1)
        )
    ).one_or_none()
    if found is None:
        return None
    return Cursor(Position(found.run_id, found.last_event_id), found.state, found.closed)


async def create(session: AsyncSession, workspace_id: UUID, execution_id: UUID, cursor: Cursor) -> bool:
    """Set an execution's first cursor; False if another mirror was faster."""
    statement = (
        insert(MirrorCursor)
        # The execution's own id makes the cursor the only one, whichever run two mirrors saw first.
        .values(id=execution_id, workspace_id=workspace_id, execution_id=execution_id, **_columns(cursor))
        .on_conflict_do_nothing()
        .returning(MirrorCursor.id)
    )
    return (await session.execute(statement)).first() is not None


async def move(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, *, old: Position, new: Cursor
) -> bool:
    """Move the cursor on; False if it no longer stands where the caller read it."""
    statement = (
        update(MirrorCursor)
        .where(
            MirrorCursor.workspace_id == workspace_id,
            MirrorCursor.execution_id == execution_id,
            MirrorCursor.run_id == old.run_id,
            MirrorCursor.last_event_id == old.event_id,
        )
        .values(**_columns(new))
        .returning(MirrorCursor.id)
    )
    return (await session.execute(statement)).first() is not None


async def forget(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> None:
    """Delete an execution's cursor: every mirror that is reading it will have to start again."""
    await session.execute(
        delete(MirrorCursor).where(
            MirrorCursor.workspace_id == workspace_id, MirrorCursor.execution_id == execution_id
        )
    )


async def hint(session: AsyncSession, execution_ids: Iterable[UUID]) -> None:
    """Tell every mirror that these executions moved on, once the transaction commits."""
    await session.execute(
        text("SELECT pg_notify(:channel, id) FROM unnest(CAST(:ids AS text[])) AS id"),
        {"channel": CHANNEL, "ids": [str(execution_id) for execution_id in execution_ids]},
    )


async def listen(url: str | URL) -> AsyncGenerator[UUID | None]:
    """Yield None once hints are heard, and then the execution of every hint; ends with the connection."""
    plain = driver_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await psycopg.AsyncConnection.connect(
        plain, autocommit=True, connect_timeout=5, keepalives_idle=30, application_name="flowtrack mirror"
    )
    async with connection:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        yield None
        async for notice in connection.notifies():
            try:
                yield UUID(notice.payload)
            except ValueError:
                continue


def _columns(cursor: Cursor) -> dict[str, Any]:
    return {
        "run_id": cursor.position.run_id,
        "last_event_id": cursor.position.event_id,
        "state": cursor.state,
        "closed": cursor.closed,
    }
