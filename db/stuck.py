"""Open runs whose rows say that they neither move nor have a reason not to; Temporal knows the reason."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

SUSPECTS = text("SELECT * FROM door_suspects(:silent_for, :after, :after_id, :limit)")


@dataclass(frozen=True)
class Place:
    """How far a walk over the open runs has come."""

    queued_at: datetime
    id: UUID


BEGINNING = Place(datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True)
class Suspect:
    """An open run that may be stuck: queued or running for long with no change, or asleep past its time."""

    workspace_id: UUID
    execution_id: UUID
    status: str
    since: datetime


async def suspects(
    session: AsyncSession, *, silent_for: timedelta, after: Place, limit: int
) -> tuple[list[Suspect], Place | None]:
    """Look at `limit` open runs after a place; say where to go on, None at the end. Runs in a door."""
    values = {"silent_for": silent_for, "after": after.queued_at, "after_id": after.id, "limit": limit}
    rows = (await session.execute(SUSPECTS, values)).all()
    found = [
        Suspect(row.workspace_id, row.execution_id, row.status, row.since) for row in rows if row.execution_id
    ]
    last = rows[0]
    return found, Place(last.last_queued_at, last.last_id) if last.looked_at == limit else None
