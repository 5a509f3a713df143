"""Pages of what the engine wrote: executions, log lines and deliveries, newest first, by keyset."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from db.models import ExecutionLog, WebhookDelivery, WorkflowExecution, WorkflowVersion
from db.models.executions import LOG_LEVELS

CLOCKS = timedelta(days=1)
"""By how much the clocks of Temporal and of PostgreSQL surely differ less."""


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
    rows = await session.execute(newest(workspace_id, wanted, limit=limit, before=before))
    return [Execution(row, version) for row, version in rows]


def newest(
    workspace_id: UUID, wanted: Wanted, *, limit: int, before: UUID | None = None
) -> Select[WorkflowExecution, int]:
    """Write the statement of `executions`."""
    query = _executions(workspace_id).where(*wanted.clauses())
    if before is not None:
        query = query.where(WorkflowExecution.id < before)
    return query.order_by(WorkflowExecution.id.desc()).limit(limit)


async def execution(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Execution | None:
    """Read one execution as the list shows it."""
    query = _executions(workspace_id).where(WorkflowExecution.id == execution_id)
    found = (await session.execute(query)).one_or_none()
    return Execution(*found) if found else None


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Which lines of an execution's log are meant."""

    level: str | None = None
    """This one and the graver ones."""
    node_id: str | None = None
    step_id: UUID | None = None
    """Only what history tells of it; lines of attempts, and those that a reset took back, name no row."""
    step: tuple[str, int] | None = None
    """All of a step's lines, by its node and visit."""
    of_steps: bool | None = None
    """Only those of steps, or only the run's own."""
    text: str | None = None
    """Part of the message, in capitals or not."""
    after: datetime | None = None
    """That moment included."""
    before: datetime | None = None

    def clauses(self) -> list[ColumnElement[bool]]:
        """Write the filter as conditions."""
        line = ExecutionLog
        named = {"node_id": self.node_id, "execution_step_id": self.step_id}
        found = [getattr(line, column) == value for column, value in named.items() if value is not None]
        if self.step is not None:
            found += [line.node_id == self.step[0], line.visit == self.step[1]]
        if self.level is not None:
            found.append(line.log_level.in_(LOG_LEVELS[LOG_LEVELS.index(self.level) :]))
        if self.of_steps is not None:
            found.append(line.node_id.is_not(None) if self.of_steps else line.node_id.is_(None))
        if self.text is not None:
            found.append(line.message.icontains(self.text, autoescape=True))
        if self.after is not None:
            found.append(line.created_at >= self.after)
        if self.before is not None:
            found.append(line.created_at < self.before)
        return found


async def logs(
    session: AsyncSession,
    workspace_id: UUID,
    execution_id: UUID,
    wanted: Lines,
    *,
    limit: int,
    queued_at: datetime | None = None,
    older_than: tuple[datetime, UUID] | None = None,
) -> Sequence[ExecutionLog]:
    """List an execution's log lines, newest first (ERD §15); with `queued_at` earlier months stay unread."""
    query = log_lines(
        workspace_id, execution_id, wanted, limit=limit, queued_at=queued_at, older_than=older_than
    )
    return (await session.execute(query)).scalars().all()


def log_lines(
    workspace_id: UUID,
    execution_id: UUID,
    wanted: Lines,
    *,
    limit: int,
    queued_at: datetime | None = None,
    older_than: tuple[datetime, UUID] | None = None,
) -> Select[ExecutionLog]:
    """Write the statement of `logs`; the bounds of time are what months are left out by."""
    line = ExecutionLog
    query = select(line).where(
        line.workspace_id == workspace_id, line.execution_id == execution_id, *wanted.clauses()
    )
    if queued_at is not None:
        query = query.where(line.created_at >= queued_at - CLOCKS)
    if older_than is not None:
        # The second says nothing new, but months can be told by it.
        query = query.where(tuple_(line.created_at, line.id) < older_than, line.created_at <= older_than[0])
    return query.order_by(line.created_at.desc(), line.id.desc()).limit(limit)


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
