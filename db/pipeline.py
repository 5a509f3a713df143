"""The board's numbers: leads by status (ERD pattern 4)."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db.models import Lead

WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Column:
    """One status, how many leads stand in it, and how many of them came within a week."""

    status: str
    count: int
    new_this_week: int


async def summary(
    session: AsyncSession, workspace_id: UUID, *, workflow_id: UUID | None = None
) -> list[Column]:
    """Count a workspace's leads by status, those of one workflow if it is named."""
    total = func.count()
    new = func.count().filter(Lead.created_at > func.now() - WEEK)
    query = select(Lead.status, total.label("total"), new.label("new")).where(
        Lead.workspace_id == workspace_id, Lead.deleted_at.is_(None)
    )
    if workflow_id is not None:
        query = query.where(Lead.workflow_id == workflow_id)
    rows = await session.execute(query.group_by(Lead.status).order_by(Lead.status))
    return [Column(status=row.status, count=row.total, new_this_week=row.new) for row in rows]
