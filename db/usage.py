"""Usage events: what was used, one line each, for billing to reconcile (ERD §19)."""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db.models import UsageEvent
from db.session import fetch

INTO: LiteralString = """
    INSERT INTO usage_events (workspace_id, id, event_type, event_category, quantity, related_resource_type,
        related_resource_id, is_billable, metadata)
"""
# Its values are named so that they can stand beside those of a lead's event in one statement.
VALUES: LiteralString = """
    %(workspace_id)s, %(use_id)s, %(use_type)s, %(use_category)s, %(use_quantity)s, %(use_related_type)s,
    %(use_related_id)s, %(use_is_billable)s, %(use_metadata)s
"""
RECORD = f"{INTO} VALUES ({VALUES})"


async def record(
    session: AsyncSession,
    workspace_id: UUID,
    event_type: str,
    *,
    category: str,
    quantity: int = 1,
    related_type: str | None = None,
    related_id: UUID | str | None = None,
    is_billable: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> UUID:
    """Add one event and return its id."""
    event_id: UUID = uuid7()
    values = {
        "workspace_id": workspace_id,
        "use_id": event_id,
        "use_type": event_type,
        "use_category": category,
        "use_quantity": quantity,
        "use_related_type": related_type,
        "use_related_id": None if related_id is None else str(related_id),
        "use_is_billable": is_billable,
        "use_metadata": dict(metadata or {}),
    }
    await fetch(session, RECORD, values)
    return event_id


def of_run(workspace_id: UUID, execution_id: UUID, event_type: str, *, category: str) -> dict[str, Any]:
    """Give the values of a billable event that a run is the cause of."""
    return {
        "workspace_id": workspace_id,
        "use_id": uuid7(),
        "use_type": event_type,
        "use_category": category,
        "use_quantity": 1,
        "use_related_type": "workflow_execution",
        "use_related_id": str(execution_id),
        "use_is_billable": True,
        "use_metadata": {},
    }


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: UUID | None = None,
    event_type: str | None = None,
) -> Sequence[UsageEvent]:
    """List events, newest first."""
    query = select(UsageEvent).where(UsageEvent.workspace_id == workspace_id)
    if event_type is not None:
        query = query.where(UsageEvent.event_type == event_type)
    if before is not None:
        query = query.where(UsageEvent.id < before)
    return (await session.execute(query.order_by(UsageEvent.id.desc()).limit(limit))).scalars().all()
