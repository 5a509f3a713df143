"""A workspace's people: who belongs to it and in which role."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from db.session import Single, fetch

ADDRESSES = """
    SELECT u.email FROM workspace_members m JOIN users u ON u.id = m.user_id
    WHERE m.workspace_id = %(workspace_id)s AND m.role = ANY(%(roles)s::text[]) AND m.joined_at IS NOT NULL
    ORDER BY u.email
"""


async def addresses(session: AsyncSession | Single, workspace_id: UUID, *, roles: Sequence[str]) -> list[str]:
    """List the e-mail addresses of the members in some roles; who has not joined yet is left out."""
    found = await fetch(session, ADDRESSES, {"workspace_id": workspace_id, "roles": list(roles)})
    return [email for (email,) in found]
