"""Executions as the mirror sees them: their status is a projection of Temporal's history (db/mirrors.py)."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db.models import WorkflowExecution
from db.models.executions import OPEN_STATUSES


async def get(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> WorkflowExecution | None:
    """Return an execution of this workspace."""
    found = await session.scalars(select(WorkflowExecution).where(*_is(workspace_id, execution_id)))
    return found.one_or_none()


async def lock(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> UUID | None:
    """Hold an execution until the transaction ends; return its workflow's id. Lines are still added to it."""
    statement = select(WorkflowExecution.workflow_id).where(*_is(workspace_id, execution_id))
    workflow_id: UUID | None = await session.scalar(statement.with_for_update(key_share=True))
    return workflow_id


async def touch(session: AsyncSession, workspace_id: UUID, execution_ids: Iterable[UUID]) -> None:
    """Note that the mirror looked and found nothing new."""
    await session.execute(
        update(WorkflowExecution)
        .where(WorkflowExecution.workspace_id == workspace_id, WorkflowExecution.id.in_(execution_ids))
        .values(mirrored_at=func.now(), updated_at=WorkflowExecution.updated_at)
    )


async def lose(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, *, dispatched_for: timedelta
) -> bool:
    """Fail an open execution that Temporal does not know; False if it was dispatched only just now."""
    error = {"type": "lost", "message": "Temporal has no such run: its history is gone or it never began."}
    statement = (
        update(WorkflowExecution)
        .where(
            *_is(workspace_id, execution_id),
            WorkflowExecution.status.in_(OPEN_STATUSES),
            func.coalesce(WorkflowExecution.dispatched_at, WorkflowExecution.queued_at)
            < func.now() - dispatched_for,
        )
        .values(
            status="failed",
            status_reason="lost",
            error=error,
            finished_at=func.now(),
            mirrored_at=func.now(),
        )
        .returning(WorkflowExecution.id)
    )
    return (await session.execute(statement)).first() is not None


def _is(workspace_id: UUID, execution_id: UUID) -> tuple[Any, Any]:
    return WorkflowExecution.workspace_id == workspace_id, WorkflowExecution.id == execution_id
