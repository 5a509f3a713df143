"""Cancels: the intent is written here and carried out later, so none is lost while Temporal is away."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db.listing import Wanted
from db.models import WorkflowExecution as Run
from db.models.executions import OPEN_STATUSES

OURS = timedelta(seconds=10)
"""Whoever asks for one execution's cancel also carries it out; the dispatcher steps in after that."""
UNDER_WAY = timedelta(seconds=30)
"""A start that found no cancel has reached Temporal by then, or never does: a request is given up before."""


class TooMany(Exception):
    """More executions match than one request may change."""


async def ask(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, *, reason: str = "cancelled"
) -> None:
    """Note that an execution is to end, if it is open; one that was never handed to Temporal ends at once."""
    await session.execute(
        update(Run)
        .where(Run.workspace_id == workspace_id, Run.id == execution_id, Run.status.in_(OPEN_STATUSES))
        .values(**_intent(due_in=OURS, reason=reason))
    )


async def ask_all(session: AsyncSession, workspace_id: UUID, wanted: Wanted, *, most: int) -> int:
    """Note the same of all open executions that match, in one statement; return how many. Raises TooMany."""
    found = (
        select(Run.id)
        .where(Run.workspace_id == workspace_id, Run.status.in_(OPEN_STATUSES), *wanted.clauses())
        # In one order, so that two such requests cannot lock each other out.
        .order_by(Run.id)
        .limit(most + 1)
        # No stronger than the update's own lock: what refers to the rows goes on being written.
        .with_for_update(key_share=True)
        .cte("found")
    )
    count = select(func.count()).select_from(found).scalar_subquery()
    asked = (
        update(Run)
        .where(Run.workspace_id == workspace_id, Run.id.in_(select(found.c.id)), count <= most)
        .values(**_intent(due_in=timedelta()))
        .returning(Run.id)
        .cte("asked")
    )
    matched: int = await session.scalar(select(count).add_cte(asked)) or 0
    if matched > most:
        raise TooMany
    return matched


async def done(
    session: AsyncSession, workspace_id: UUID, execution_ids: Iterable[UUID], *, unknown: Iterable[UUID] = ()
) -> None:
    """Note that Temporal has taken cancels in, or has no such open run.

    Of the `unknown` those stay due whose start may be under way: they are asked for again.
    """
    may_come = Run.dispatched_at.is_(None) & (Run.cancel_requested_at > func.now() - UNDER_WAY)
    await session.execute(
        update(Run)
        .where(
            Run.workspace_id == workspace_id,
            Run.id.in_(execution_ids),
            ~(may_come & Run.id.in_(unknown)),
        )
        .values(cancel_due_at=None, updated_at=Run.updated_at)
    )


def _intent(*, due_in: timedelta, reason: str = "cancelled") -> dict[str, Any]:
    # Also one that seems never to have been handed over is asked for: its start may be under way.
    never = (Run.status == "queued") & Run.dispatched_at.is_(None)
    return {
        "status": case((never, "cancelled"), else_=Run.status),
        "status_reason": case((never, reason), else_=Run.status_reason),
        "finished_at": case((never, func.now()), else_=Run.finished_at),
        "cancel_requested_at": func.coalesce(Run.cancel_requested_at, func.now()),
        # Who asks again is heard again: the first may have reached Temporal before the run was there.
        "cancel_due_at": func.coalesce(Run.cancel_due_at, func.now() + due_in),
    }
