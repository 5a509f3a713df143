"""Pages of what the engine wrote: executions, steps, log lines and deliveries, newest first, by keyset."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from db.models import ExecutionLog, ExecutionStep, WebhookDelivery, WorkflowExecution, WorkflowVersion


@dataclass(frozen=True)
class Execution:
    """An execution and the number of the version it runs."""

    row: WorkflowExecution
    version: int

    @property
    def id(self) -> UUID:
        """The execution's id, by which the list is ordered."""
        return self.row.id


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which executions of a workspace are meant."""

    status: str | None = None
    workflow_id: UUID | None = None
    lead_id: UUID | None = None
    cause: UUID | None = None
    """Only what this execution caused."""
    queued_after: datetime | None = None
    """That moment included."""
    queued_before: datetime | None = None

    def clauses(self) -> list[ColumnElement[bool]]:
        """Write the filter as conditions."""
        run = WorkflowExecution
        named = {
            "status": self.status,
            "workflow_id": self.workflow_id,
            "lead_id": self.lead_id,
            "cause_execution_id": self.cause,
        }
        found = [getattr(run, column) == value for column, value in named.items() if value is not None]
        if self.queued_after is not None:
            found.append(run.queued_at >= self.queued_after)
        if self.queued_before is not None:
            found.append(run.queued_at < self.queued_before)
        return found


async def executions(
    session: AsyncSession, workspace_id: UUID, wanted: Wanted, *, limit: int, before: UUID | None = None
) -> list[Execution]:
    """List executions, newest first."""
    query = _executions(workspace_id).where(*wanted.clauses())
    if before is not None:
        query = query.where(WorkflowExecution.id < before)
    rows = await session.execute(query.order_by(WorkflowExecution.id.desc()).limit(limit))
    return [Execution(row, version) for row, version in rows]


async def execution(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Execution | None:
    """Read one execution as the list shows it."""
    query = _executions(workspace_id).where(WorkflowExecution.id == execution_id)
    found = (await session.execute(query)).one_or_none()
    return Execution(*found) if found else None


async def steps(
    session: AsyncSession,
    workspace_id: UUID,
    execution_id: UUID,
    *,
    limit: int,
    after: tuple[int, UUID] | None = None,
) -> Sequence[ExecutionStep]:
    """List an execution's steps in the order in which they were decided."""
    query = select(ExecutionStep).where(
        ExecutionStep.workspace_id == workspace_id, ExecutionStep.execution_id == execution_id
    )
    if after is not None:
        query = query.where(tuple_(ExecutionStep.step_number, ExecutionStep.id) > after)
    query = query.order_by(ExecutionStep.step_number, ExecutionStep.id).limit(limit)
    return (await session.execute(query)).scalars().all()


async def logs(
    session: AsyncSession,
    workspace_id: UUID,
    execution_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    level: str | None = None,
    node_id: str | None = None,
    step_id: UUID | None = None,
) -> Sequence[ExecutionLog]:
    """List an execution's log lines, newest first (ERD §15)."""
    query = select(ExecutionLog).where(
        ExecutionLog.workspace_id == workspace_id, ExecutionLog.execution_id == execution_id
    )
    wanted = {"log_level": level, "node_id": node_id, "execution_step_id": step_id}
    for column, value in wanted.items():
        if value is not None:
            query = query.where(getattr(ExecutionLog, column) == value)
    if before is not None:
        query = query.where(tuple_(ExecutionLog.created_at, ExecutionLog.id) < before)
    query = query.order_by(ExecutionLog.created_at.desc(), ExecutionLog.id.desc()).limit(limit)
    return (await session.execute(query)).scalars().all()


async def deliveries(
    session: AsyncSession,
    workspace_id: UUID,
    endpoint_id: UUID,
    *,
    limit: int,
    before: UUID | None = None,
    status: str | None = None,
) -> Sequence[WebhookDelivery]:
    """List the attempts made at an endpoint, newest first."""
    query = select(WebhookDelivery).where(
        WebhookDelivery.workspace_id == workspace_id, WebhookDelivery.webhook_endpoint_id == endpoint_id
    )
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    if before is not None:
        query = query.where(WebhookDelivery.id < before)
    return (await session.execute(query.order_by(WebhookDelivery.id.desc()).limit(limit))).scalars().all()


def _executions(workspace_id: UUID) -> Select[WorkflowExecution, int]:
    version = (
        (WorkflowVersion.workspace_id == WorkflowExecution.workspace_id)
        & (WorkflowVersion.workflow_id == WorkflowExecution.workflow_id)
        & (WorkflowVersion.id == WorkflowExecution.workflow_version_id)
    )
    return (
        select(WorkflowExecution, WorkflowVersion.version)
        .join(WorkflowVersion, version)
        .where(WorkflowExecution.workspace_id == workspace_id)
    )
