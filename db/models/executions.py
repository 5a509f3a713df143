"""Executions, steps, logs, effects, wakes and the mirror's cursors (ERD §13-15, design §6-7)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from db.models.base import (
    Base,
    Created,
    Tenant,
    Timestamps,
    door_index,
    forgets,
    indexed,
    json_column,
    one_of,
    parent,
    unique,
)

TRIGGER_TYPES = ("FORM", "MANUAL", "WEBHOOK", "SCHEDULE", "LEAD_EVENT", "API", "WORKFLOW")
EXECUTION_STATUSES = ("queued", "running", "waiting", "completed", "failed", "cancelled")
OPEN_STATUSES = ("queued", "running", "waiting")
STEP_STATUSES = ("running", "completed", "failed", "skipped", "cancelled")
LOG_SOURCES = ("history", "attempt", "superseded")
LOG_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")
EFFECT_STATUSES = ("reserved", "confirmed", "unknown", "released")


class WorkflowExecution(Tenant, Timestamps, Base):
    """One run; `queued` rows are the outbox, the rest of `status` is the mirror's."""

    __tablename__ = "workflow_executions"
    __table_args__ = (
        parent("workflow_id", "workflows"),
        ForeignKeyConstraint(
            ["workspace_id", "workflow_id", "workflow_version_id"],
            ["workflow_versions.workspace_id", "workflow_versions.workflow_id", "workflow_versions.id"],
            name="workflow_version_id",
        ),
        parent("lead_id", "leads", ondelete=forgets("lead_id")),
        parent("rerun_of", "workflow_executions", ondelete=forgets("rerun_of")),
        parent("cause_execution_id", "workflow_executions", ondelete=forgets("cause_execution_id")),
        one_of("trigger_type", TRIGGER_TYPES),
        one_of("status", EXECUTION_STATUSES),
        indexed(
            "workflow_executions_idempotency_key",
            "workflow_id",
            "idempotency_key",
            where="idempotency_key IS NOT NULL",
            is_unique=True,
        ),
        indexed("workflow_executions_workflow_id", "workflow_id", "id"),
        # Nearly all are completed: those are found by the list itself.
        indexed("workflow_executions_status", "status", "id", where="status <> 'completed'"),
        indexed("workflow_executions_lead_id", "lead_id", where="lead_id IS NOT NULL"),
        indexed(
            "workflow_executions_cause_execution_id",
            "cause_execution_id",
            where="cause_execution_id IS NOT NULL",
        ),
        indexed("workflow_executions_rerun_of", "rerun_of", where="rerun_of IS NOT NULL"),
        # Written once a run, at its end, when `status` has every index written anyway.
        indexed("workflow_executions_finished_at", "finished_at", where="finished_at IS NOT NULL"),
        # Temporal's workflow ids are one namespace for all workspaces, and so are the ids they are made of.
        door_index("door_workflow_executions_id", "id", is_unique=True),
        door_index(
            "door_workflow_executions_awaited",
            "id",
            where="awaited_step IS NOT NULL AND collected_at IS NULL",
        ),
        door_index(
            "door_workflow_executions_open",
            "queued_at",
            where="status IN ('queued', 'running', 'waiting')",
        ),
        door_index("door_workflow_executions_cancel", "cancel_due_at", where="cancel_due_at IS NOT NULL"),
    )

    workflow_id: Mapped[UUID]
    workflow_version_id: Mapped[UUID]
    lead_id: Mapped[UUID | None]
    trigger_type: Mapped[str]
    trigger_node_id: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="queued", server_default=text("'queued'"))
    status_reason: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    trigger_data: Mapped[dict[str, Any]] = json_column()
    output_data: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    rerun_of: Mapped[UUID | None]
    rerun_from: Mapped[dict[str, Any] | None]
    """Where a rerun goes on (`from`, `node_id`), and whose history tells what it keeps (`of`)."""
    cause_execution_id: Mapped[UUID | None]
    """The run whose step started this one, or changed the lead that this one reacts to."""
    awaited_step: Mapped[str | None]
    """The key of the step there that waits for the end of this one."""
    told_at: Mapped[datetime | None]
    """When the mirror told the run that waits; a run that ends by its own code does so itself."""
    collected_at: Mapped[datetime | None]
    """When that step took the end in; until then the two runs are kept in touch (api/mirror/kin.py)."""
    hops: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many runs stand between this one and what came from outside."""
    temporal_run_id: Mapped[str | None]
    lock_acquired_at: Mapped[datetime | None]
    locked_by: Mapped[str | None]
    dispatched_at: Mapped[datetime | None]
    dispatch_attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    mirrored_at: Mapped[datetime | None]
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    cancel_due_at: Mapped[datetime | None]
    """When the dispatcher is to ask Temporal, until Temporal has taken it in."""


class ExecutionStep(Base):
    """One visit of one node, in the words of the version that ran."""

    __tablename__ = "execution_steps"
    __table_args__ = (
        parent("execution_id", "workflow_executions"),
        parent("workflow_node_id", "workflow_nodes", ondelete=forgets("workflow_node_id")),
        one_of("status", STEP_STATUSES),
        CheckConstraint("visit > 0", name="visit"),
        # The id is made of execution, node and visit (api/mirror/rows.py), which makes those unique, too.
        PrimaryKeyConstraint("workspace_id", "execution_id", "id"),
        indexed("execution_steps_workflow_node_id", "workflow_node_id", where="workflow_node_id IS NOT NULL"),
    )

    workspace_id: Mapped[UUID]
    execution_id: Mapped[UUID]
    id: Mapped[UUID] = mapped_column(default=uuid7)
    workflow_node_id: Mapped[UUID | None]
    node_id: Mapped[str]
    node_type: Mapped[str]
    label: Mapped[str | None]
    visit: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    step_number: Mapped[int]
    status: Mapped[str]
    skip_reason: Mapped[str | None]
    handle: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    input_data: Mapped[dict[str, Any] | None]
    output_data: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ExecutionLog(Base):
    """One line of a run's log; months are partitions, and created_at is the time of what it tells."""

    __tablename__ = "execution_logs"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "execution_id", "created_at", "id"),
        parent("execution_id", "workflow_executions"),
        ForeignKeyConstraint(
            ["workspace_id", "execution_id", "execution_step_id"],
            ["execution_steps.workspace_id", "execution_steps.execution_id", "execution_steps.id"],
            name="execution_step_id",
            ondelete=forgets("execution_step_id"),
        ),
        one_of("log_level", LOG_LEVELS),
        one_of("source", LOG_SOURCES),
        indexed("execution_logs_step", "execution_step_id", where="execution_step_id IS NOT NULL"),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )

    workspace_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    id: Mapped[UUID] = mapped_column(default=uuid7)
    execution_id: Mapped[UUID]
    execution_step_id: Mapped[UUID | None]
    node_id: Mapped[str | None]
    visit: Mapped[int | None]
    log_level: Mapped[str] = mapped_column(default="INFO", server_default=text("'INFO'"))
    message: Mapped[str]
    data: Mapped[dict[str, Any] | None]
    source: Mapped[str] = mapped_column(default="history", server_default=text("'history'"))
    run_id: Mapped[str | None]
    """Of attempts and of what was superseded: all else is told by the execution's own run."""
    event_id: Mapped[int | None] = mapped_column(BigInteger)
    attempt: Mapped[int | None]


class Effect(Base):
    """What a step did to the world, once: the key knows no run id and no attempt."""

    __tablename__ = "effects"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "execution_id", "node_id", "visit", "effect"),
        parent("execution_id", "workflow_executions"),
        one_of("status", EFFECT_STATUSES),
        door_index("door_effects_in_doubt", "reserved_at", where="status IN ('reserved', 'unknown')"),
    )

    workspace_id: Mapped[UUID]
    execution_id: Mapped[UUID]
    node_id: Mapped[str]
    visit: Mapped[int]
    effect: Mapped[str]
    status: Mapped[str] = mapped_column(default="reserved", server_default=text("'reserved'"))
    output: Mapped[dict[str, Any] | None]
    reserved_at: Mapped[datetime] = mapped_column(server_default=func.now())
    confirmed_at: Mapped[datetime | None]


class EventWake(Tenant, Created, Base):
    """An event of its lead that an open run is to be told of; it goes once Temporal has the signal."""

    __tablename__ = "event_wakes"
    __table_args__ = (
        parent("execution_id", "workflow_executions"),
        parent("event_id", "lead_events"),
        unique("event_id", "event_id", "execution_id"),
        indexed("event_wakes_execution_id", "execution_id"),
        door_index("door_event_wakes_created_at", "created_at"),
    )

    execution_id: Mapped[UUID]
    event_id: Mapped[UUID]
    lock_acquired_at: Mapped[datetime | None]
    locked_by: Mapped[str | None]


class MirrorCursor(Base):
    """How far the mirror has read an execution's history."""

    __tablename__ = "mirror_cursors"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "execution_id"),
        parent("execution_id", "workflow_executions"),
    )

    workspace_id: Mapped[UUID]
    execution_id: Mapped[UUID]
    run_id: Mapped[str]
    last_event_id: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    state: Mapped[dict[str, Any]] = json_column()
    closed: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
