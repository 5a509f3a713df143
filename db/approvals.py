"""What is known of an approval to whom holds a link to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import steps
from db.models import ExecutionStep, Workflow, WorkflowExecution, WorkflowVersion
from db.models.executions import OPEN_STATUSES


@dataclass(frozen=True)
class Standing:
    """How an approval stands, as far as the mirror has come."""

    workflow: str
    execution_status: str
    step_status: str | None
    """None: the run has not come to it, or the mirror has not."""
    handle: str | None
    message: str
    decisions: tuple[Mapping[str, Any], ...]

    @property
    def is_over(self) -> bool:
        """Tell whether nothing can be decided any more."""
        return self.execution_status not in OPEN_STATUSES or self.step_status not in (None, "running")


async def standing(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, *, node_id: str, visit: int
) -> Standing | None:
    """Read how an approval stands; None if there is no such execution."""
    step = and_(
        ExecutionStep.workspace_id == WorkflowExecution.workspace_id,
        ExecutionStep.execution_id == WorkflowExecution.id,
        ExecutionStep.node_id == node_id,
        ExecutionStep.visit == visit,
    )
    workflow = and_(
        Workflow.workspace_id == WorkflowExecution.workspace_id, Workflow.id == WorkflowExecution.workflow_id
    )
    version = and_(
        WorkflowVersion.workspace_id == WorkflowExecution.workspace_id,
        WorkflowVersion.workflow_id == WorkflowExecution.workflow_id,
        WorkflowVersion.id == WorkflowExecution.workflow_version_id,
    )
    found = (
        await session.execute(
            select(Workflow.name, WorkflowExecution.status, ExecutionStep.status.label("step_status"))
            .add_columns(ExecutionStep.handle, ExecutionStep.input_data, ExecutionStep.output_data)
            .add_columns(WorkflowVersion.inputs[node_id].label("base"))
            .select_from(WorkflowExecution)
            .join(Workflow, workflow)
            .join(WorkflowVersion, version)
            .outerjoin(ExecutionStep, step)
            .where(WorkflowExecution.workspace_id == workspace_id, WorkflowExecution.id == execution_id)
        )
    ).one_or_none()
    if found is None:
        return None
    message = _named(steps.whole_input(found.input_data, found.base), "message")
    decisions = _named(found.output_data, "decisions")
    return Standing(
        workflow=found.name,
        execution_status=found.status,
        step_status=found.step_status,
        handle=found.handle,
        message=message if isinstance(message, str) else "",
        decisions=tuple(each for each in decisions or () if isinstance(each, dict)),
    )


def _named(data: Any, name: str) -> Any:
    # What is masked is no object.
    return data.get(name) if isinstance(data, dict) else None
