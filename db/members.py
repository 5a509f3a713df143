"""A workspace's people: who belongs to it and in which role."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db.models import User, WorkspaceMember


async def addresses(session: AsyncSession, workspace_id: UUID, *, roles: Sequence[str]) -> list[str]:
    """List the e-mail addresses of the members in some roles; who has not joined yet is left out."""
    found = await session.execute(
        select(User.email)
        .join(WorkspaceMember, WorkspaceMember.user_id == User.id)
        .where(
            WorkspaceMember.workspace_id == workspace_id,
            WorkspaceMember.role.in_(roles),
            WorkspaceMember.joined_at.is_not(None),
        )
        .order_by(User.email)
    )
    return list(found.scalars())
