"""Runs by the clock: which workflow wants a schedule, and the runs that a time of it queues."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import doors, leads
from db.models import Lead, Workflow, WorkflowExecution, Workspace
from db.models.executions import OPEN_STATUSES
from db.session import to_json
from workflows import conditions
from workflows.nodes.trigger_schedule import Config, LeadQuery

TRIGGER = "TRIGGER_SCHEDULE"
# A row that is there was queued by an earlier try: this time counts once, with its use.
QUEUE = text("""
    WITH given AS (
      SELECT r.* FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS r (id uuid, lead_id uuid, key text, usage_id uuid)),
    run AS (
      INSERT INTO workflow_executions (workspace_id, id, workflow_id, workflow_version_id, lead_id,
                                       trigger_type, trigger_node_id, status, idempotency_key, trigger_data)
      SELECT :workspace_id, g.id, :workflow_id, :version_id, g.lead_id,
             'SCHEDULE', :trigger_node_id, 'queued', g.key, CAST(:trigger_data AS jsonb)
      FROM given g
      ON CONFLICT (workspace_id, workflow_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
      RETURNING id)
    INSERT INTO usage_events (workspace_id, id, event_type, event_category, quantity, is_billable,
                              related_resource_type, related_resource_id)
    SELECT :workspace_id, g.usage_id, 'execution_requested', 'api', 1, false,
           'workflow_execution', CAST(g.id AS text)
    FROM run JOIN given g ON g.id = run.id
    RETURNING related_resource_id
""")


@dataclass(frozen=True)
class Plan:
    """What the published version of an active workflow does when its time has come."""

    workspace_id: UUID
    workflow_id: UUID
    version_id: UUID
    trigger_node_id: str
    config: Config
    zone: str


@dataclass(frozen=True)
class Batch:
    """Leads that get a run, and the last one that was looked at if there may be more."""

    lead_ids: Sequence[UUID]
    after: UUID | None


async def wanted(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> doors.Scheduled | None:
    """Say what schedule a workflow should have; None for none."""
    row = await _published(session, workspace_id, workflow_id, "active", "paused")
    if row is None:
        return None
    workflow, zone = row
    config = (workflow.trigger or {}).get("config", {})
    return doors.Scheduled(workspace_id, workflow_id, workflow.status, zone, config)


async def plan(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> Plan | None:
    """Say what a time of the schedule does now; None if the workflow takes no more of them."""
    row = await _published(session, workspace_id, workflow_id, "active")
    if row is None:
        return None
    workflow, zone = row
    trigger, version_id = workflow.trigger, workflow.published_version_id
    if trigger is None or version_id is None:
        return None
    config = read(trigger.get("config", {}))
    return Plan(workspace_id, workflow_id, version_id, trigger["id"], config, zone)


def read(config: dict[str, Any]) -> Config:
    """Read a stored config; keys of another release are passed over."""
    known = {alias for info in Config.model_fields.values() if (alias := info.alias)}
    return Config.model_validate({key: value for key, value in config.items() if key in known})


async def is_busy(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, *, due: datetime | None
) -> bool:
    """Tell whether a scheduled run of another time is still open."""
    query = select(exists().where(*_open(workspace_id, workflow_id, due)))
    return bool((await session.execute(query)).scalar_one())


async def batch(
    session: AsyncSession, of: Plan, asked: LeadQuery, *, due: datetime, after: UUID | None
) -> Batch:
    """Find the next leads that fit."""
    query = select(Lead.id).where(*_narrowed(of, asked, due))
    if after is not None:
        query = query.where(Lead.id > after)
    limit = of.config.batch_size
    found = (await session.execute(query.order_by(Lead.id).limit(limit))).scalars().all()
    last = found[-1] if len(found) == limit else None
    if asked.filter is None:
        return Batch(found, last)
    fitting = [lead_id for lead_id in found if await _fits(session, of, asked.filter, lead_id, due)]
    return Batch(fitting, last)


async def queue(session: AsyncSession, of: Plan, due: datetime, lead_ids: Sequence[UUID | None]) -> int:
    """Queue the runs of one time, one for each lead; those that are there already are left alone."""
    rows = [
        {
            "id": str(uuid7()),
            "usage_id": str(uuid7()),
            "lead_id": None if lead_id is None else str(lead_id),
            "key": key_of(due, lead_id),
        }
        for lead_id in lead_ids
    ]
    values = {
        "rows": to_json(rows),
        "workspace_id": of.workspace_id,
        "workflow_id": of.workflow_id,
        "version_id": of.version_id,
        "trigger_node_id": of.trigger_node_id,
        "trigger_data": to_json({"scheduled_at": moment_of(due)}),
    }
    return len((await session.execute(QUEUE, values)).all()) if rows else 0


def moment_of(due: datetime) -> str:
    """Write a time of a schedule the one way it is kept."""
    return due.astimezone(UTC).isoformat(timespec="seconds")


def key_of(due: datetime, lead_id: UUID | None) -> str:
    """Name the one run that a time has, or has for a lead."""
    return moment_of(due) if lead_id is None else f"{moment_of(due)}:{lead_id}"


async def _published(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, *statuses: str
) -> tuple[Workflow, str] | None:
    query = (
        select(Workflow, Workspace.timezone)
        .join(Workspace, Workspace.id == Workflow.workspace_id)
        .where(
            Workflow.workspace_id == workspace_id,
            Workflow.id == workflow_id,
            Workflow.trigger_type == TRIGGER,
            Workflow.status.in_(statuses),
            Workflow.deleted_at.is_(None),
        )
    )
    row = (await session.execute(query)).one_or_none()
    return (row[0], row[1]) if row else None


def _open(workspace_id: UUID, workflow_id: UUID, due: datetime | None) -> list[ColumnElement[bool]]:
    found = [
        WorkflowExecution.workspace_id == workspace_id,
        WorkflowExecution.workflow_id == workflow_id,
        WorkflowExecution.trigger_type == "SCHEDULE",
        WorkflowExecution.status.in_(OPEN_STATUSES),
    ]
    if due is not None:
        # What an earlier try of this very time queued is no reason to skip it.
        found.append(~WorkflowExecution.idempotency_key.startswith(moment_of(due), autoescape=True))
    return found


def _narrowed(of: Plan, asked: LeadQuery, due: datetime) -> list[ColumnElement[bool]]:
    found = [Lead.workspace_id == of.workspace_id, Lead.deleted_at.is_(None), Lead.erased_at.is_(None)]
    if asked.status:
        found.append(Lead.status.in_(asked.status))
    if asked.workflow_id is not None:
        found.append(Lead.workflow_id == asked.workflow_id)
    if of.config.overlap == "skip":
        busy = exists().where(
            WorkflowExecution.lead_id == Lead.id, *_open(of.workspace_id, of.workflow_id, due)
        )
        found.append(~busy)
    return found


async def _fits(session: AsyncSession, of: Plan, rule: dict[str, Any], lead_id: UUID, due: datetime) -> bool:
    lead = await leads.scope(session, of.workspace_id, lead_id)
    if lead is None:
        return False
    scope = {"trigger": {"scheduled_at": moment_of(due)}, "lead": lead}
    zone = str(lead.get("timezone") or of.config.timezone or of.zone)
    return conditions.evaluate(rule, scope, now=datetime.now(UTC), zone=zone).holds
