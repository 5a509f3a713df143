"""Runs that a step of another run starts: ordered once, waited for, ended with the run that waits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import runs
from db.models import WorkflowExecution
from db.models.executions import OPEN_STATUSES
from db.reactions import MAX_HOPS
from db.runs import Cause

ENDED_WITH_PARENT = "parent_ended"
"""The `status_reason` of a run that was cancelled because nobody waits for it any more."""


class CannotStart(Exception):
    """No run of this workflow can be started now."""

    def __init__(self, type_: str, message: str) -> None:
        super().__init__(message)
        self.type = type_
        self.message = message


@dataclass(frozen=True)
class Child:
    """A run as the step that started it sees it; `status` is the mirror's, so it may be late."""

    status: str
    status_reason: str | None
    output: Any
    error: dict[str, Any] | None

    @property
    def is_over(self) -> bool:
        """Tell whether its row says that it has ended."""
        return self.status not in OPEN_STATUSES


async def order(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    workflow_id: UUID,
    by: UUID,
    awaiting_step: str | None,
    trigger_data: Mapping[str, Any],
    lead_id: UUID | None,
) -> UUID:
    """Queue a run of a workflow's published version for another run; raises CannotStart."""
    entry = await runs.entry(session, workspace_id, workflow_id)
    if entry is None:
        raise CannotStart("unknown_workflow", f"There is no workflow {workflow_id}.")
    if entry.version_id is None or entry.trigger is None:
        raise CannotStart("workflow_not_published", "The workflow was never published.")
    if entry.status != "active":
        raise CannotStart(f"workflow_{entry.status}", f"The workflow is {entry.status} and starts no runs.")
    before = await session.scalar(select(WorkflowExecution.hops).where(*_is(workspace_id, by)))
    hops = (before or 0) + 1
    if hops > MAX_HOPS:
        raise CannotStart("hop_limit", f"{MAX_HOPS} runs in a row have started each other.")
    return await runs.queue(
        session,
        workspace_id,
        workflow_id=workflow_id,
        version_id=entry.version_id,
        trigger_type="WORKFLOW",
        trigger_node_id=entry.trigger["id"],
        trigger_data=trigger_data,
        lead_id=lead_id,
        cause=Cause(by, hops, awaiting_step),
    )


async def look(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Child | None:
    """Read what the row of a run says."""
    row = (
        await session.execute(
            select(
                WorkflowExecution.status,
                WorkflowExecution.status_reason,
                WorkflowExecution.output_data,
                WorkflowExecution.error,
            ).where(*_is(workspace_id, execution_id))
        )
    ).one_or_none()
    return Child(*row) if row else None


async def withdrawn(
    session: AsyncSession, workspace_id: UUID, execution_ids: Iterable[UUID]
) -> dict[UUID, UUID]:
    """Find which of these runs were cancelled before they began while another run waits, and which one."""
    found = await session.execute(
        select(WorkflowExecution.id, WorkflowExecution.cause_execution_id).where(
            WorkflowExecution.workspace_id == workspace_id,
            WorkflowExecution.id.in_(execution_ids),
            WorkflowExecution.awaited_step.is_not(None),
            WorkflowExecution.collected_at.is_(None),
            WorkflowExecution.dispatched_at.is_(None),
            WorkflowExecution.status == "cancelled",
            WorkflowExecution.cause_execution_id.is_not(None),
        )
    )
    return {row.id: row.cause_execution_id for row in found}


async def collect(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> None:
    """Note that nobody waits for a run any more."""
    await session.execute(
        update(WorkflowExecution)
        .where(*_is(workspace_id, execution_id), WorkflowExecution.collected_at.is_(None))
        .values(collected_at=func.now(), updated_at=WorkflowExecution.updated_at)
    )


async def note_told(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> None:
    """Note that the run that waits for this one was told of its end."""
    await session.execute(
        update(WorkflowExecution)
        .where(*_is(workspace_id, execution_id))
        .values(told_at=func.now(), updated_at=WorkflowExecution.updated_at)
    )


async def awaited_by(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, *, step: str | None = None
) -> Sequence[UUID]:
    """List the open runs that the steps of a run wait for, or one of them."""
    awaited = WorkflowExecution.awaited_step
    found = await session.scalars(
        select(WorkflowExecution.id).where(
            WorkflowExecution.workspace_id == workspace_id,
            WorkflowExecution.cause_execution_id == execution_id,
            awaited.is_not(None) if step is None else awaited == step,
            WorkflowExecution.status.in_(OPEN_STATUSES),
        )
    )
    return found.all()


def _is(workspace_id: UUID, execution_id: UUID) -> tuple[Any, Any]:
    return WorkflowExecution.workspace_id == workspace_id, WorkflowExecution.id == execution_id
