"""A submission of a public form or a hook: everything it leaves behind, in one transaction (design §4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, literal_column, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import idempotency, reactions
from db.models import Lead, WorkflowExecution
from db.session import to_json
from workflows.fields import Field

FORM = text("""
    SELECT f.name, f.description, f.status, f.settings, f.published_version_id,
      (SELECT node FROM jsonb_array_elements(v.graph -> 'nodes') AS node
       WHERE node ->> 'type' = :trigger LIMIT 1) AS trigger,
      (SELECT coalesce(jsonb_agg(to_jsonb(q) ORDER BY q.position, q.id), '[]'::jsonb) FROM form_fields q
       WHERE q.workspace_id = f.workspace_id AND q.workflow_id = f.id) AS questions
    FROM workflows f JOIN workflow_versions v
      ON v.workspace_id = f.workspace_id AND v.workflow_id = f.id AND v.id = f.published_version_id
    WHERE f.workspace_id = :workspace_id AND f.id = :workflow_id AND f.deleted_at IS NULL
      AND f.status IN ('active', 'paused')
""")
# Answers, event, run and usage are one statement: four tables, one round trip, and nothing to compile. It
# returns who reacts to a new lead.
RECORDS = text(f"""
    WITH given AS (SELECT CAST(:workspace_id AS uuid) AS workspace_id, CAST(:lead_id AS uuid) AS lead_id,
                          CAST(:execution_id AS uuid) AS execution_id, CAST(:runs AS boolean) AS runs),
    answers AS (
      INSERT INTO lead_field_data (workspace_id, id, lead_id, form_field_id, value)
      SELECT g.workspace_id, r.id, g.lead_id, r.form_field_id, r.value
      FROM given g, jsonb_to_recordset(CAST(:answers AS jsonb)) AS r (id uuid, form_field_id uuid, value text)
      WHERE g.lead_id IS NOT NULL
      ON CONFLICT (workspace_id, lead_id, form_field_id)
      DO UPDATE SET value = excluded.value, updated_at = now()),
    event AS (
      INSERT INTO lead_events (workspace_id, id, lead_id, event_type, description, metadata,
                               triggered_by_workflow_execution_id)
      SELECT g.workspace_id, :event_id, g.lead_id, :event_type, :description, CAST(:notes AS jsonb),
             CASE WHEN g.runs THEN g.execution_id END
      FROM given g WHERE g.lead_id IS NOT NULL),
    run AS (
      INSERT INTO workflow_executions (workspace_id, id, workflow_id, workflow_version_id, lead_id,
                                       trigger_type, trigger_node_id, status, idempotency_key, trigger_data)
      SELECT g.workspace_id, g.execution_id, :workflow_id, :version_id, g.lead_id, :trigger_type,
             :trigger_node_id, 'queued', :run_key, CAST(:trigger_data AS jsonb)
      FROM given g WHERE g.runs),
    used AS (
      INSERT INTO usage_events (workspace_id, id, event_type, event_category, quantity, is_billable,
                                related_resource_type, related_resource_id)
      SELECT g.workspace_id, :usage_id, :usage_type, 'api', 1, false, :related_type, :related_id
      FROM given g)
    {reactions.LISTENING}
""")
LEAD_COLUMNS = ("first_name", "last_name", "phone", "company", "timezone")


class Policy(StrEnum):
    """What another submission of a known e-mail address does (nodes.md, TRIGGER_FORM)."""

    UPDATE_AND_RUN = "update_and_run"
    UPDATE_ONLY = "update_only"
    REJECT = "reject"
    IGNORE = "ignore"


@dataclass(frozen=True, kw_only=True)
class Channel:
    """The door that a submission came in by, in the words of the tables it is written to."""

    trigger: str
    trigger_type: str
    event_type: str
    usage_type: str
    source: Literal["form", "webhook"]
    told: str


FORMS = Channel(
    trigger="TRIGGER_FORM",
    trigger_type="FORM",
    event_type="FORM_SUBMITTED",
    usage_type="form_submission",
    source="form",
    told="Submitted the form “{}”",
)
HOOKS = Channel(
    trigger="TRIGGER_WEBHOOK",
    trigger_type="WEBHOOK",
    event_type="WEBHOOK_RECEIVED",
    usage_type="webhook_received",
    source="webhook",
    told="Came in by the webhook of “{}”",
)


class Closed(Exception):
    """The form takes no more submissions."""


class Duplicate(Exception):
    """The address is known and the form takes one submission for each."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A published form that takes submissions."""

    workspace_id: UUID
    workflow_id: UUID
    version_id: UUID
    name: str
    description: str | None
    settings: Mapping[str, Any]
    trigger_node_id: str
    trigger_config: Mapping[str, Any]
    fields: tuple[Field, ...]
    field_ids: Mapping[str, UUID]
    channel: Channel = FORMS


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Checked answers, and the key under which they count once."""

    claim: idempotency.Claim
    """The claimed key with the answer that is given if the claim succeeds."""
    execution_id: UUID
    run_key: str | None
    values: Mapping[str, str]
    typed: Mapping[str, Any]
    lead: Mapping[str, str]
    """The lead's own columns; without an e-mail address there is no lead."""
    policy: Policy = Policy.UPDATE_AND_RUN
    closes_at: datetime | None = None
    max_submissions: int | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Accepted:
    """What came of a submission."""

    earlier: idempotency.Answer | None = None
    """It is a repeat; this was the answer."""
    execution_id: UUID | None = None
    """The run to start, if there is one."""
    reactions: tuple[UUID, ...] = ()
    """Runs of other workflows, which the new lead starts."""

    @property
    def started(self) -> tuple[UUID, ...]:
        """Name all runs to start after the commit."""
        return (*((self.execution_id,) if self.execution_id else ()), *self.reactions)


@dataclass(frozen=True)
class LeadFound:
    """The submission's lead."""

    id: UUID
    is_new: bool


async def load_form(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, channel: Channel = FORMS
) -> Form | None:
    """Return the published form or hook of an active or paused workflow and its fields, in one statement."""
    given = {"workspace_id": workspace_id, "workflow_id": workflow_id, "trigger": channel.trigger}
    row = (await session.execute(FORM, given)).one_or_none()
    if row is None or row.trigger is None:
        return None
    return Form(
        workspace_id=workspace_id,
        workflow_id=workflow_id,
        version_id=row.published_version_id,
        name=row.name,
        description=row.description,
        settings=row.settings,
        trigger_node_id=row.trigger["id"],
        trigger_config=row.trigger.get("config", {}),
        fields=tuple(Field.model_validate(question) for question in row.questions),
        field_ids={question["field_key"]: UUID(question["id"]) for question in row.questions},
        channel=channel,
    )


async def accept(session: AsyncSession, form: Form, submission: Submission) -> Accepted:
    """Write a submission, or find that it was written before.

    Parallel repeats wait at the claim. On Closed, Duplicate and idempotency.InFlight nothing is written.
    """
    earlier = await idempotency.take(session, form.workspace_id, submission.claim)
    if earlier is not None:
        return Accepted(earlier=earlier)
    await _refuse_closed(session, form, submission)
    lead = await _save_lead(session, form, submission)
    known = lead is not None and not lead.is_new
    if known and submission.policy is Policy.REJECT:
        raise Duplicate
    if known and submission.policy is Policy.IGNORE:
        return Accepted()
    runs = not (known and submission.policy is Policy.UPDATE_ONLY)
    given = _records(form, submission, lead, runs=runs)
    listeners = (await session.execute(RECORDS, given)).all()
    reacting = await _react(session, form, lead, given["event_id"], listeners) if listeners and lead else []
    return Accepted(
        execution_id=submission.execution_id if runs else None,
        reactions=tuple(reacting),
    )


async def _react(
    session: AsyncSession,
    form: Form,
    lead: LeadFound,
    event_id: UUID,
    listeners: Sequence[reactions.Listener],
) -> list[UUID]:
    change = reactions.Change(
        event="lead_created", lead_id=lead.id, event_id=event_id, by=form.channel.source
    )
    return await reactions.queue(session, form.workspace_id, change, listeners)


async def _refuse_closed(session: AsyncSession, form: Form, submission: Submission) -> None:
    if submission.closes_at is None and submission.max_submissions is None:
        return
    if submission.max_submissions is not None:
        # Only a lock makes counting safe; it is taken by forms that have a limit, and by nobody else.
        await session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
            {"name": f"form {form.workflow_id}"},
        )
    counted = select(func.count()).where(
        WorkflowExecution.workspace_id == form.workspace_id,
        WorkflowExecution.workflow_id == form.workflow_id,
        WorkflowExecution.trigger_type == "FORM",
        # To run a submission again is not to submit it again.
        WorkflowExecution.rerun_from.is_(None),
    )
    now, count = (await session.execute(select(func.now(), counted.scalar_subquery()))).one()
    if submission.closes_at is not None and now >= submission.closes_at:
        raise Closed
    if submission.max_submissions is not None and count >= submission.max_submissions:
        raise Closed


async def _save_lead(session: AsyncSession, form: Form, submission: Submission) -> LeadFound | None:
    if "email" not in submission.lead:
        return None
    given = {name: submission.lead.get(name) for name in LEAD_COLUMNS}
    statement = upsert(Lead).values(
        workspace_id=form.workspace_id,
        id=uuid7(),
        workflow_id=form.workflow_id,
        email=submission.lead["email"],
        source=form.channel.source,
        **given,
    )
    changes = {name: func.coalesce(statement.excluded[name], getattr(Lead, name)) for name in LEAD_COLUMNS}
    changed = submission.policy in (Policy.UPDATE_AND_RUN, Policy.UPDATE_ONLY)
    statement = statement.on_conflict_do_update(
        constraint="leads_workflow_id_email_key",
        # Who was deleted and submits again is a lead again.
        set_={**changes, "deleted_at": None, "updated_at": func.now()},
        where=None if changed else Lead.deleted_at.is_not(None),
    )
    # A row that was inserted has no xmax; one that was only locked or updated has.
    row: Any = (
        await session.execute(statement.returning(Lead.id, literal_column("leads.xmax = 0").label("is_new")))
    ).one_or_none()
    return LeadFound(row.id, bool(row.is_new) or not changed) if row else LeadFound(UUID(int=0), is_new=False)


def _records(form: Form, submission: Submission, lead: LeadFound | None, *, runs: bool) -> dict[str, Any]:
    lead_id = lead.id if lead else None
    answers = [
        {"id": str(uuid7()), "form_field_id": str(form.field_ids[key]), "value": value}
        for key, value in submission.values.items()
    ]
    return {
        "workspace_id": form.workspace_id,
        "workflow_id": form.workflow_id,
        "version_id": form.version_id,
        "trigger_node_id": form.trigger_node_id,
        "lead_id": lead_id,
        "awaited": reactions.TRIGGERS["lead_created"] if lead and lead.is_new else None,
        "runs": runs,
        "execution_id": submission.execution_id,
        "run_key": submission.run_key,
        "trigger_data": to_json(dict(submission.typed)),
        "answers": to_json(answers),
        "event_id": uuid7(),
        "event_type": form.channel.event_type,
        "trigger_type": form.channel.trigger_type,
        "usage_type": form.channel.usage_type,
        "description": form.channel.told.format(form.name),
        "notes": to_json({"workflow_id": str(form.workflow_id), **submission.notes}),
        "usage_id": uuid7(),
        "related_type": "workflow_execution" if runs else "lead",
        "related_id": str(submission.execution_id if runs else lead_id),
    }
