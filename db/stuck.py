"""Open runs whose rows say that they neither move nor have a reason not to; Temporal knows the reason."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, case, exists, func, literal_column, text
from sqlalchemy.ext.asyncio import AsyncSession

from db import listing
from db.listing import Execution, Wanted
from db.models import Workflow
from db.models import WorkflowExecution as Run
from db.models.executions import OPEN_STATUSES

SUSPECTS = text("SELECT * FROM door_suspects(:silent_for, :after, :after_id, :limit)")

# When the first of a run's steps was due; what waits for people or events only is never late.
DUE = literal_column(
    """(SELECT min((s.value ->> 'wake_at')::timestamptz)
        FROM mirror_cursors c, jsonb_each(c.state -> 'run' -> 'sleeping') s
        WHERE c.workspace_id = workflow_executions.workspace_id
            AND c.execution_id = workflow_executions.id)""",
    DateTime(timezone=True),
)


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


async def of_workspace(
    session: AsyncSession,
    workspace_id: UUID,
    wanted: Wanted,
    *,
    silent_for: timedelta,
    limit: int,
    before: UUID | None = None,
) -> list[tuple[Execution, Suspect]]:
    """List those of a workspace's executions that may be stuck, newest first; the door's rule, row by row."""
    # Its own case, so that cursors are read for no more rows than need be.
    since = case(
        (Run.status == "queued", func.coalesce(Run.dispatched_at, Run.queued_at)),
        (Run.status == "running", Run.updated_at),
        (Run.updated_at < func.clock_timestamp() - silent_for, DUE),
    )
    rows = await session.execute(
        listing.newest(workspace_id, wanted, limit=limit, before=before)
        .add_columns(since)
        .where(*_may_be_stuck(), since < func.clock_timestamp() - silent_for)
    )
    return [
        (Execution(run, version), Suspect(workspace_id, run.id, run.status, at)) for run, version, at in rows
    ]


def _may_be_stuck() -> list[ColumnElement[bool]]:
    """Leave out what is over, what is paused and what a paused workflow holds back."""
    is_held = exists().where(
        Workflow.workspace_id == Run.workspace_id, Workflow.id == Run.workflow_id, Workflow.status == "paused"
    )
    return [
        Run.status.in_(OPEN_STATUSES),
        Run.status_reason.is_distinct_from("paused"),
        (Run.status != "queued") | Run.dispatched_at.is_not(None) | ~is_held,
    ]
