"""Steps as the mirror writes them: whole rows, the last word wins."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, delete, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import func

from db.models import ExecutionStep

# One statement and one parameter for any number of rows. The node is looked up in the draft: one that was
# deleted since leaves the step without it, as its deletion would.
SAVE = text(
    """
    INSERT INTO execution_steps (
        workspace_id, execution_id, workflow_node_id, id, node_id, node_type, label, visit, step_number,
        status, skip_reason, handle, attempt, input_data, output_data, error, started_at, finished_at,
        created_at, updated_at)
    SELECT :workspace_id, :execution_id, n.id, r.id, r.node_id, r.node_type, r.label, r.visit, r.step_number,
        r.status, r.skip_reason, r.handle, r.attempt, r.input_data, r.output_data, r.error, r.started_at,
        r.finished_at, r.created_at, r.updated_at
    FROM jsonb_to_recordset(:rows) AS r(
        id uuid, node_id text, node_type text, label text, visit integer, step_number integer, status text,
        skip_reason text, handle text, attempt integer, input_data jsonb, output_data jsonb, error jsonb,
        started_at timestamptz, finished_at timestamptz, created_at timestamptz, updated_at timestamptz)
    LEFT JOIN workflow_nodes n ON n.workspace_id = :workspace_id AND n.workflow_id = :workflow_id
        AND n.react_flow_node_id = r.node_id
    ON CONFLICT (workspace_id, execution_id, node_id, visit) DO UPDATE SET
        status = excluded.status, step_number = excluded.step_number, skip_reason = excluded.skip_reason,
        handle = excluded.handle, attempt = excluded.attempt, input_data = excluded.input_data,
        output_data = excluded.output_data, error = excluded.error, started_at = excluded.started_at,
        finished_at = excluded.finished_at, created_at = excluded.created_at, updated_at = excluded.updated_at
    """
).bindparams(bindparam("rows", type_=JSONB()))


async def save(
    session: AsyncSession,
    workspace_id: UUID,
    execution_id: UUID,
    *,
    workflow_id: UUID,
    rows: Sequence[dict[str, Any]],
) -> None:
    """Insert steps, or replace those that are there."""
    if not rows:
        return
    values = {"workspace_id": workspace_id, "execution_id": execution_id, "workflow_id": workflow_id}
    await session.execute(SAVE, {**values, "rows": list(rows)})


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
