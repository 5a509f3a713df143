"""Submissions of a public form or a hook: everything they leave behind, in one statement (design §4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import idempotency, reactions
from db.forms import STAMP, Form
from db.models import WorkflowExecution
from db.session import Database, fetch, to_json

AWAITED: LiteralString = """
    EXISTS (SELECT FROM workflows x WHERE x.workspace_id = CAST(%(workspace_id)s AS uuid)
      AND x.trigger_type = %(listening)s AND x.deleted_at IS NULL)
"""
# Key, lead, answers, event, run and use of any number of submissions of one form: seven tables, one round
# trip, one plan. A form that is not what its stamp says writes nothing; a key that is taken writes nothing.
# Without `reacts` it writes nothing where others wait for new leads: who they are is for Python to weigh.
# Keys and leads are written in their own order, so that parallel statements wait for each other in turn.
SUBMIT: LiteralString = f"""
    WITH form AS MATERIALIZED (
      SELECT f.id FROM workflows f JOIN workspaces w ON w.id = f.workspace_id
      WHERE f.workspace_id = CAST(%(workspace_id)s AS uuid) AND f.id = CAST(%(workflow_id)s AS uuid)
        AND (CAST(%(stamp)s AS text) IS NULL OR {STAMP} = %(stamp)s)
        AND (CAST(%(reacts)s AS boolean) OR NOT {AWAITED})),
    given AS MATERIALIZED (
      SELECT r.* FROM form, jsonb_to_recordset(CAST(%(given)s AS jsonb)) AS r (
        n int, key text, hash text, body text, seconds float, email text, first_name text,
        last_name text, phone text, company text, timezone text, lead_id uuid, event_id uuid,
        execution_id uuid, usage_id uuid, run_key text, typed jsonb, answers jsonb, notes jsonb)),
    claimed AS (
      INSERT INTO idempotency_keys AS k (workspace_id, scope, idempotency_key, request_hash,
                                         response_status, response_body, expires_at)
      SELECT CAST(%(workspace_id)s AS uuid), %(scope)s, g.key, decode(g.hash, 'hex'), 202, g.body,
             now() + g.seconds * interval '1 second'
      FROM given g ORDER BY g.key
      ON CONFLICT (workspace_id, scope, idempotency_key) DO UPDATE
      SET request_hash = excluded.request_hash, response_status = excluded.response_status,
          response_body = excluded.response_body, response_headers = excluded.response_headers,
          expires_at = excluded.expires_at
      WHERE k.expires_at < now()
      RETURNING k.idempotency_key AS key),
    fresh AS (SELECT g.* FROM given g JOIN claimed USING (key)),
    lead AS (
      INSERT INTO leads AS l (workspace_id, id, workflow_id, email, source, first_name, last_name, phone,
                              company, timezone)
      SELECT CAST(%(workspace_id)s AS uuid), f.lead_id, CAST(%(workflow_id)s AS uuid), f.email, %(source)s,
             f.first_name, f.last_name, f.phone, f.company, f.timezone
      FROM fresh f WHERE f.email IS NOT NULL ORDER BY f.email
      ON CONFLICT (workspace_id, workflow_id, email) DO UPDATE
      SET first_name = coalesce(excluded.first_name, l.first_name),
          last_name = coalesce(excluded.last_name, l.last_name),
          phone = coalesce(excluded.phone, l.phone), company = coalesce(excluded.company, l.company),
          timezone = coalesce(excluded.timezone, l.timezone),
          -- Who was deleted and submits again is a lead again.
          deleted_at = NULL, updated_at = now()
      WHERE CAST(%(updates)s AS boolean) OR l.deleted_at IS NOT NULL
      -- A row that was inserted has no xmax; one that was only locked or updated has.
      RETURNING l.id, l.email, l.xmax = 0 OR NOT CAST(%(updates)s AS boolean) AS is_new),
    placed AS (
      SELECT f.*, l.id AS lead, coalesce(l.is_new, false) AS is_new,
             l.id IS NULL OR l.is_new OR CAST(%(runs_known)s AS boolean) AS runs
      FROM fresh f LEFT JOIN lead l USING (email) WHERE f.email IS NULL OR l.id IS NOT NULL),
    answered AS (
      INSERT INTO lead_field_data (workspace_id, id, lead_id, form_field_id, value)
      SELECT CAST(%(workspace_id)s AS uuid), a.id, p.lead, a.form_field_id, a.value
      FROM placed p, jsonb_to_recordset(p.answers) AS a (id uuid, form_field_id uuid, value text)
      WHERE p.lead IS NOT NULL
      ON CONFLICT (workspace_id, lead_id, form_field_id)
      DO UPDATE SET value = excluded.value),
    told AS (
      INSERT INTO lead_events (workspace_id, id, lead_id, event_type, description, metadata,
                               triggered_by_workflow_execution_id)
      SELECT CAST(%(workspace_id)s AS uuid), p.event_id, p.lead, %(event_type)s, %(description)s, p.notes,
             CASE WHEN p.runs THEN p.execution_id END
      FROM placed p WHERE p.lead IS NOT NULL),
    ordered AS (
      INSERT INTO workflow_executions (workspace_id, id, workflow_id, workflow_version_id, lead_id,
                                       trigger_type, trigger_node_id, status, idempotency_key, trigger_data,
                                       locked_by, lock_acquired_at)
      SELECT CAST(%(workspace_id)s AS uuid), p.execution_id, CAST(%(workflow_id)s AS uuid), %(version_id)s,
             p.lead, %(trigger_type)s, %(trigger_node_id)s, 'queued', p.run_key, p.typed,
             CAST(%(starter)s AS text),
             CASE WHEN CAST(%(starter)s AS text) IS NOT NULL THEN clock_timestamp() END
      FROM placed p WHERE p.runs),
    used AS (
      INSERT INTO usage_events (workspace_id, id, event_type, event_category, quantity, is_billable,
                                related_resource_type, related_resource_id)
      SELECT CAST(%(workspace_id)s AS uuid), p.usage_id, %(usage_type)s, 'api', 1, false,
             CASE WHEN p.runs THEN 'workflow_execution' ELSE 'lead' END,
             CAST(CASE WHEN p.runs THEN p.execution_id ELSE p.lead END AS text)
      FROM placed p)
    SELECT g.n, c.key IS NOT NULL AS is_claimed, p.n IS NOT NULL AS is_placed, p.lead, p.runs, p.event_id,
           p.is_new AND {AWAITED} AS is_awaited
    FROM given g LEFT JOIN claimed c USING (key) LEFT JOIN placed p ON p.n = g.n
    ORDER BY g.n
"""


class Policy(StrEnum):
    """What another submission of a known e-mail address does (nodes.md, TRIGGER_FORM)."""

    UPDATE_AND_RUN = "update_and_run"
    UPDATE_ONLY = "update_only"
    REJECT = "reject"
    IGNORE = "ignore"


class Closed(Exception):
    """The form takes no more submissions."""


class Duplicate(Exception):
    """The address is known and the form takes one submission for each."""


class Stale(Exception):
    """The form has changed since it was read."""


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

    @property
    def is_sociable(self) -> bool:
        """Tell whether it can be written together with others: it never asks for a lock, nor a rollback."""
        return self.policy is not Policy.REJECT and self.closes_at is None and self.max_submissions is None


class Row(NamedTuple):
    """What SUBMIT says of a submission."""

    number: int
    is_claimed: bool
    is_placed: bool
    lead: UUID | None
    runs: bool | None
    event_id: UUID | None
    is_awaited: bool | None


@dataclass(frozen=True)
class Accepted:
    """What came of a submission."""

    earlier: idempotency.Answer | None = None
    """It is a repeat; this was the answer."""
    execution_id: UUID | None = None
    """The run to start, if there is one."""
    lead_id: UUID | None = None
    reactions: tuple[UUID, ...] = ()
    """Runs of other workflows, which the new lead starts."""
    is_promised: bool = False
    """The run's row names who is going to start it, so that for a while nobody else does."""


async def accept(
    session: AsyncSession, form: Form, submission: Submission, *, starter: str | None = None
) -> Accepted:
    """Write a submission, or find that it was written before.

    Parallel repeats wait at the claim. Stale, Closed, Duplicate, idempotency.InFlight: nothing is written.
    """
    if await _is_closed(session, form, submission):
        try:
            return Accepted(earlier=await _earlier(session, form, submission))
        except idempotency.InFlight as error:
            raise Closed from error
    return (await accept_all(session, form, [submission], starter=starter))[0]


async def accept_all(
    session: AsyncSession, form: Form, submissions: Sequence[Submission], *, starter: str | None = None
) -> list[Accepted]:
    """Write submissions of one form with keys and addresses that differ, all under one policy.

    `starter` is who is going to start their runs: for a while the dispatcher leaves them alone.
    """
    each = [_one(form, number, submission) for number, submission in enumerate(submissions)]
    given = {**_shared(form, submissions[0], starter=starter), "given": to_json(each)}
    rows = [Row(*row) for row in await fetch(session, SUBMIT, {**given, "reacts": True})]
    if not rows:
        raise Stale
    return [
        await _accepted(session, form, row, submission, starter=starter)
        for row, submission in zip(rows, submissions, strict=True)
    ]


async def accept_at_once(
    database: Database, form: Form, submissions: Sequence[Submission], *, starter: str | None = None
) -> list[Accepted | Exception] | None:
    """Write sociable submissions of one form, or find that they were written before, in one message.

    None, and nothing is written, where the form has changed or others wait for its new leads.
    """
    each = [_one(form, number, submission) for number, submission in enumerate(submissions)]
    given = {**_shared(form, submissions[0], starter=starter), "given": to_json(each), "reacts": False}
    found = await fetch(database.single(form.workspace_id), SUBMIT, given)
    if not found:
        return None
    rows = [Row(*row) for row in found]
    return [
        _placed(row, submission, starter=starter)
        if row.is_claimed
        else await _repeated(database, form, submission)
        for row, submission in zip(rows, submissions, strict=True)
    ]


async def _repeated(database: Database, form: Form, submission: Submission) -> Accepted | Exception:
    async with database.workspace(form.workspace_id) as session:
        try:
            return Accepted(earlier=await _earlier(session, form, submission))
        except idempotency.InFlight as error:
            return error


async def _accepted(
    session: AsyncSession, form: Form, row: Row, submission: Submission, *, starter: str | None
) -> Accepted:
    if not row.is_claimed:
        return Accepted(earlier=await _earlier(session, form, submission))
    if not row.is_placed and submission.policy is Policy.REJECT:
        raise Duplicate
    placed = _placed(row, submission, starter=starter)
    return replace(placed, reactions=tuple(await _react(session, form, row))) if row.is_awaited else placed


def _placed(row: Row, submission: Submission, *, starter: str | None) -> Accepted:
    if not row.is_placed:
        return Accepted()
    return Accepted(
        execution_id=submission.execution_id if row.runs else None,
        lead_id=row.lead,
        is_promised=bool(row.runs) and starter is not None,
    )


async def _earlier(session: AsyncSession, form: Form, submission: Submission) -> idempotency.Answer:
    claim = submission.claim
    return await idempotency.find(session, form.workspace_id, scope=claim.scope, key=claim.key)


async def _react(session: AsyncSession, form: Form, row: Row) -> list[UUID]:
    if row.lead is None or row.event_id is None:
        return []
    change = reactions.Change(
        event="lead_created", lead_id=row.lead, event_id=row.event_id, by=form.channel.source
    )
    return await reactions.react(session, form.workspace_id, change)


async def _is_closed(session: AsyncSession, form: Form, submission: Submission) -> bool:
    if submission.closes_at is None and submission.max_submissions is None:
        return False
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
    is_late = submission.closes_at is not None and now >= submission.closes_at
    return is_late or (submission.max_submissions is not None and count >= submission.max_submissions)


def _shared(form: Form, submission: Submission, *, starter: str | None) -> dict[str, Any]:
    """Give what the submissions of one statement have in common."""
    channel, policy = form.channel, submission.policy
    return {
        "workspace_id": form.workspace_id,
        "workflow_id": form.workflow_id,
        "version_id": form.version_id,
        "stamp": form.stamp,
        "trigger_node_id": form.trigger_node_id,
        "scope": submission.claim.scope,
        "updates": policy in (Policy.UPDATE_AND_RUN, Policy.UPDATE_ONLY),
        "runs_known": policy is not Policy.UPDATE_ONLY,
        "source": channel.source,
        "event_type": channel.event_type,
        "trigger_type": channel.trigger_type,
        "usage_type": channel.usage_type,
        "description": channel.told.format(form.name),
        "starter": starter,
        "listening": reactions.TRIGGERS["lead_created"],
    }


def _one(form: Form, number: int, submission: Submission) -> dict[str, Any]:
    """Give what is a submission's own."""
    claim = submission.claim
    return {
        **submission.lead,
        "n": number,
        "key": claim.key,
        "hash": claim.request_hash.hex(),
        "body": claim.answer.body if claim.answer else None,
        "seconds": claim.kept.total_seconds(),
        **{name: str(uuid7()) for name in ("lead_id", "event_id", "usage_id")},
        "execution_id": str(submission.execution_id),
        "run_key": submission.run_key,
        "typed": submission.typed,
        "notes": submission.notes,
        "answers": [
            {"id": str(uuid7()), "form_field_id": str(form.field_ids[key]), "value": value}
            for key, value in submission.values.items()
        ],
    }
