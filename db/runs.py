"""Runs asked for by hand or through the API: the queued row is the order, whoever carries it out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db.models import UsageEvent, WorkflowExecution

ENTRY = text("""
    SELECT f.status, v.id AS version_id, v.version,
      (SELECT node FROM jsonb_array_elements(v.graph -> 'nodes') AS node
       WHERE node ->> 'type' LIKE 'TRIGGER\\_%'
       ORDER BY array_position(ARRAY['TRIGGER_MANUAL', 'TRIGGER_FORM'], node ->> 'type') NULLS LAST
       LIMIT 1) AS trigger
    FROM workflows f LEFT JOIN workflow_versions v
      ON v.workspace_id = f.workspace_id AND v.workflow_id = f.id AND v.id = f.published_version_id
    WHERE f.workspace_id = :workspace_id AND f.id = :workflow_id AND f.deleted_at IS NULL
""")


@dataclass(frozen=True)
class Entry:
    """Where a run of a workflow begins; nothing but the status is known of one that was never published."""

    status: str
    version_id: UUID | None
    trigger: Mapping[str, Any] | None


@dataclass(frozen=True)
class Cause:
    """The run that orders another one."""

    execution_id: UUID
    hops: int
    """How many runs then stand before the new one."""
    awaiting_step: str | None = None
    """The key of the step that waits for its end, if one does."""


async def entry(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> Entry | None:
    """Find a workflow's published version and the trigger that a run by hand starts at."""
    given = {"workspace_id": workspace_id, "workflow_id": workflow_id}
    row = (await session.execute(ENTRY, given)).one_or_none()
    return Entry(row.status, row.version_id, row.trigger) if row else None


async def queue(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    workflow_id: UUID,
    version_id: UUID,
    trigger_type: str,
    trigger_node_id: str,
    trigger_data: Mapping[str, Any],
    lead_id: UUID | None = None,
    idempotency_key: str | None = None,
    cause: Cause | None = None,
) -> UUID:
    """Order a run and note its use; the caller starts it after the commit, or the dispatcher does."""
    execution_id = uuid7()
    run = insert(WorkflowExecution).values(
        workspace_id=workspace_id,
        id=execution_id,
        workflow_id=workflow_id,
        workflow_version_id=version_id,
        lead_id=lead_id,
        trigger_type=trigger_type,
        trigger_node_id=trigger_node_id,
        status="queued",
        # Inside a WITH, SQLAlchemy leaves out its own defaults.
        dispatch_attempts=0,
        idempotency_key=idempotency_key,
        cause_execution_id=cause.execution_id if cause else None,
        awaited_step=cause.awaiting_step if cause else None,
        hops=cause.hops if cause else 0,
        trigger_data=dict(trigger_data),
    )
    usage = insert(UsageEvent).values(
        workspace_id=workspace_id,
        id=uuid7(),
        event_type="execution_requested",
        event_category="api",
        quantity=1,
        is_billable=False,
        related_resource_type="workflow_execution",
        related_resource_id=str(execution_id),
        event_metadata={"trigger_type": trigger_type},
    )
    await session.execute(usage.add_cte(run.cte("run")))
    return execution_id


async def by_key(session: AsyncSession, workspace_id: UUID, workflow_id: UUID, key: str) -> UUID | None:
    """Find the one run that an idempotency key ordered, however long ago (ERD §13)."""
    found: UUID | None = await session.scalar(
        select(WorkflowExecution.id).where(
            WorkflowExecution.workspace_id == workspace_id,
            WorkflowExecution.workflow_id == workflow_id,
            WorkflowExecution.idempotency_key == key,
        )
    )
    return found


async def refuse(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, *, reason: str, type_: str, message: str
) -> bool:
    """Fail a run that can never be handed to Temporal; False if it was, or is over."""
    refused = await session.execute(
        update(WorkflowExecution)
        .where(
            WorkflowExecution.workspace_id == workspace_id,
            WorkflowExecution.id == execution_id,
            WorkflowExecution.status == "queued",
            WorkflowExecution.dispatched_at.is_(None),
        )
        .values(
            status="failed",
            status_reason=reason,
            error={"type": type_, "message": message},
            finished_at=func.now(),
        )
        .returning(WorkflowExecution.id)
    )
    return refused.first() is not None
