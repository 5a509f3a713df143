"""Steps of an execution; only the mirror writes them (db/mirrors.py).

Their rows hold of input and output what is told nowhere else: what templates made of the version's `inputs`,
and of a trigger nothing, as its output is the run's `trigger_data`. Written by `lean_*`, read by `page`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql import func

from db.models import ExecutionStep, WorkflowExecution, WorkflowVersion


def lean_input(whole: LiteralString, base: LiteralString) -> LiteralString:
    """Write in SQL what of an input differs from its base; an array holds one that lacks keys of its base."""
    return f"""
        CASE WHEN jsonb_typeof({whole}) IS DISTINCT FROM 'object' OR {base} IS NULL THEN {whole}
            WHEN NOT {whole} ?& ARRAY(SELECT jsonb_object_keys({base})) THEN jsonb_build_array({whole})
            ELSE (SELECT coalesce(jsonb_object_agg(own.key, own.value), '{{}}') FROM jsonb_each({whole}) own
                WHERE own.value IS DISTINCT FROM {base} -> own.key) END
    """


def whole_input(lean: Any, base: Mapping[str, Any] | None) -> Any:
    """Give an input back as it was recorded."""
    if isinstance(lean, list):
        return lean[0]
    return {**base, **lean} if base and isinstance(lean, dict) else lean


def lean_output(whole: LiteralString, trigger_data: LiteralString) -> LiteralString:
    """Write in SQL what an output is if it is not the run's trigger data: JSON's null stands for these."""
    return f"CASE WHEN {whole} = {trigger_data} THEN 'null'::jsonb ELSE {whole} END"


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    execution_id: UUID,
    *,
    limit: int,
    after: tuple[int, UUID] | None = None,
) -> Sequence[ExecutionStep]:
    """List an execution's steps, whole, in the order in which they were decided."""
    of_trigger = func.coalesce(func.jsonb_typeof(ExecutionStep.output_data) == "null", False)
    query = select(ExecutionStep, of_trigger).where(
        ExecutionStep.workspace_id == workspace_id, ExecutionStep.execution_id == execution_id
    )
    if after is not None:
        query = query.where(tuple_(ExecutionStep.step_number, ExecutionStep.id) > after)
    query = query.order_by(ExecutionStep.step_number, ExecutionStep.id).limit(limit)
    found = (await session.execute(query)).all()
    if not found:
        return []
    inputs, trigger_data = await _told_elsewhere(session, workspace_id, execution_id)
    for step, is_trigger_data in found:
        # What is filled in is no change of the row.
        set_committed_value(step, "input_data", whole_input(step.input_data, inputs.get(step.node_id)))
        if is_trigger_data:
            set_committed_value(step, "output_data", trigger_data)
    return [step for step, _ in found]


async def _told_elsewhere(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID
) -> tuple[Mapping[str, Any], Any]:
    version = (
        (WorkflowVersion.workspace_id == WorkflowExecution.workspace_id)
        & (WorkflowVersion.workflow_id == WorkflowExecution.workflow_id)
        & (WorkflowVersion.id == WorkflowExecution.workflow_version_id)
    )
    query = (
        select(WorkflowVersion.inputs, WorkflowExecution.trigger_data)
        .join(WorkflowVersion, version)
        .where(WorkflowExecution.workspace_id == workspace_id, WorkflowExecution.id == execution_id)
    )
    found = (await session.execute(query)).one_or_none()
    # Deleted since its steps were read.
    inputs, trigger_data = found or (None, None)
    return inputs or {}, trigger_data


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
