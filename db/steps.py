"""Steps of an execution; only the mirror writes them (db/mirrors.py)."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import func

from db.models import ExecutionStep


async def of_execution(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID
) -> Sequence[ExecutionStep]:
    """List an execution's steps in the order in which they were decided."""
    found = await session.scalars(
        select(ExecutionStep)
        .where(ExecutionStep.workspace_id == workspace_id, ExecutionStep.execution_id == execution_id)
        .order_by(ExecutionStep.step_number, ExecutionStep.id)
    )
    return found.all()


async def cancel_open(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> None:
    """End the steps of an execution that Temporal lost."""
    await session.execute(
        update(ExecutionStep)
        .where(
            ExecutionStep.workspace_id == workspace_id,
            ExecutionStep.execution_id == execution_id,
            ExecutionStep.status == "running",
        )
        .values(status="cancelled", finished_at=func.now())
    )


async def forget(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> None:
    """Delete an execution's steps, so that they can be projected again."""
    await session.execute(
        delete(ExecutionStep).where(
            ExecutionStep.workspace_id == workspace_id, ExecutionStep.execution_id == execution_id
        )
    )
