"""What a run changes in a lead: read under a lock, so that what is added to is what is there.

What needs no decision of ours is changed, told and recorded in one message, which does nothing at all where
something is out of the ordinary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from uuid_utils.compat import uuid7

from db import effects, leads, reactions
from db.effects import EffectKey
from db.models import FormField, Lead
from db.session import Database, fetch
from workflows.fields import Field

LIVE: LiteralString = "workspace_id = %(workspace_id)s AND id = %(lead_id)s AND deleted_at IS NULL"
TELL = f"""
    WITH here AS (
        SELECT FROM leads WHERE {LIVE} AND {effects.UNKNOWN}),
    key AS ({effects.CONFIRMED} %(output)s FROM here {effects.UNLESS_KNOWN} RETURNING 1),
    told AS ({leads.INTO_EVENTS} SELECT {leads.EVENT} FROM key)
    SELECT 1 FROM key
"""
# A status that the lead may not come from, and one that others react to, are for Python to weigh.
MOVE = f"""
    WITH here AS (
        SELECT status FROM leads
        WHERE {LIVE} AND {effects.UNKNOWN} AND NOT EXISTS ({reactions.IS_HEARD}) FOR NO KEY UPDATE),
    decided AS (
        SELECT status AS before, status <> %(status)s AS moves FROM here
        WHERE status = %(status)s OR status = ANY(%(allowed)s::text[])
            OR cardinality(%(allowed)s::text[]) = 0),
    key AS (
        {effects.CONFIRMED} CASE
            WHEN moves THEN jsonb_build_object('changed', true, 'from', before, 'to', %(status)s::text)
            ELSE jsonb_build_object('changed', false, 'from', before, 'to', before, 'reason', 'already') END
        FROM decided {effects.UNLESS_KNOWN} RETURNING output),
    moved AS (
        UPDATE leads SET status = %(status)s, updated_at = now() FROM decided, key
        WHERE workspace_id = %(workspace_id)s AND id = %(lead_id)s AND moves),
    told AS (
        {leads.INTO_EVENTS}
        SELECT %(workspace_id)s, %(event_id)s, %(lead_id)s, %(event_type)s,
            before || ' → ' || %(status)s, jsonb_build_object('from', before, 'to', %(status)s::text),
            %(by_user)s, %(by_execution)s
        FROM decided, key WHERE moves)
    SELECT output FROM key
"""
SEEN: LiteralString = f"""
    jsonb_build_object('email', l.email, 'first_name', l.first_name, 'last_name', l.last_name,
        'phone', l.phone, 'company', l.company, 'source', l.source, 'timezone', l.timezone,
        'answers', {leads.ANSWERS})
"""
LOOK = f"""
    SELECT {SEEN}, ARRAY(
        SELECT jsonb_build_object('field_key', f.field_key, 'label', f.label, 'field_type', f.field_type,
            'options', f.options, 'is_required', f.is_required, 'help_text', f.help_text,
            'validation', f.validation)
        FROM form_fields f WHERE f.workspace_id = l.workspace_id AND f.workflow_id = l.workflow_id
            AND f.field_key = ANY(%(keys)s::text[]))
    FROM leads l WHERE {LIVE}
"""
# The lock is a statement of its own: what comes after it sees what whoever held it has written.
LOCK = f"SELECT 1 FROM leads WHERE {LIVE} FOR NO KEY UPDATE"
WRITE = f"""
    WITH here AS (SELECT FROM leads l WHERE {LIVE} AND {effects.UNKNOWN} AND {SEEN} = %(seen)s),
    key AS ({effects.CONFIRMED} %(output)s FROM here {effects.UNLESS_KNOWN} RETURNING 1),
    own AS (
        UPDATE leads SET first_name = %(first_name)s, last_name = %(last_name)s, phone = %(phone)s,
            company = %(company)s, source = %(source)s, timezone = %(timezone)s, updated_at = now()
        WHERE {LIVE} AND %(has_columns)s AND EXISTS (SELECT FROM key)),
    answered AS (
        INSERT INTO lead_field_data (workspace_id, id, lead_id, form_field_id, value)
        SELECT l.workspace_id, given.id, l.id, f.id, given.value
        FROM unnest(%(ids)s::uuid[], %(keys)s::text[], %(values)s::text[]) AS given (id, field_key, value)
        JOIN leads l ON l.workspace_id = %(workspace_id)s AND l.id = %(lead_id)s
        JOIN form_fields f ON f.workspace_id = l.workspace_id AND f.workflow_id = l.workflow_id
            AND f.field_key = given.field_key
        WHERE EXISTS (SELECT FROM key)
        ON CONFLICT (workspace_id, lead_id, form_field_id)
            DO UPDATE SET value = excluded.value),
    told AS ({leads.INTO_EVENTS} SELECT {leads.EVENT} FROM key WHERE %(is_told)s)
    SELECT 1 FROM key
"""


@dataclass(frozen=True)
class Held:
    """A lead that nobody else changes in this transaction, and the form fields asked for."""

    lead: Lead
    answers: Mapping[str, str | None]
    fields: Mapping[str, Field]


@dataclass(frozen=True)
class Seen:
    """A lead as it was when somebody looked: it is written only if it still is so."""

    held: Held
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Changed:
    """What a run's change came to, and the lead as it is now."""

    output: dict[str, Any]
    lead: dict[str, Any] | None


async def tell(
    database: Database, key: EffectKey, lead_id: UUID, output: dict[str, Any], event: Mapping[str, Any]
) -> bool:
    """Add an event to a lead's history under its key; False where the key is known or the lead is gone."""
    given = {**key.values, **event, "lead_id": lead_id, "output": output}
    return bool(await fetch(database.single(key.workspace_id), TELL, given))


async def move(
    database: Database,
    key: EffectKey,
    lead_id: UUID,
    status: str,
    *,
    allowed_from: Sequence[str],
    event_type: str,
) -> Changed | None:
    """Move a lead on the board under its key, and tell of it; None where that takes a closer look."""
    event = leads.event_of(key.workspace_id, lead_id, event_type, execution_id=key.execution_id)
    listeners = {"awaited": reactions.TRIGGERS[reactions.MOVED]}
    given = {**key.values, **event, **listeners, "status": status, "allowed": list(allowed_from)}
    made, lead = await database.at_once(key.workspace_id, (MOVE, given), (leads.SCOPE, given))
    return Changed(made[0][0], leads.scoped(lead)) if made else None


async def look(
    database: Database, workspace_id: UUID, lead_id: UUID, field_keys: Sequence[str]
) -> Seen | None:
    """Read a lead and the named fields of its form without a lock; None if there is no such lead."""
    given = {"workspace_id": workspace_id, "lead_id": lead_id, "keys": list(field_keys)}
    found = await fetch(database.single(workspace_id), LOOK, given)
    if not found:
        return None
    ((values, questions),) = found
    own = {name: value for name, value in values.items() if name != "answers"}
    fields = {each["field_key"]: Field.model_validate(each) for each in questions}
    return Seen(Held(Lead(**own), values["answers"], fields), values)


async def write(
    database: Database,
    key: EffectKey,
    lead_id: UUID,
    seen: Seen,
    *,
    columns: Mapping[str, str | None],
    answers: Mapping[str, str | None],
    output: dict[str, Any],
    event: Mapping[str, Any] | None,
) -> Changed | None:
    """Write what was worked out from what was seen, under its key; None where that is no longer so."""
    given = {
        **key.values,
        **leads.event_of(key.workspace_id, lead_id, ""),
        **(event or {}),
        **{name: seen.values[name] for name in leads.COLUMNS},
        **columns,
        "seen": dict(seen.values),
        "output": output,
        "has_columns": bool(columns),
        "is_told": event is not None,
        "ids": [uuid7() for _ in answers],
        "keys": list(answers),
        "values": list(answers.values()),
    }
    statements = (LOCK, given), (WRITE, given), (leads.SCOPE, given)
    _, made, lead = await database.at_once(key.workspace_id, *statements)
    return Changed(output, leads.scoped(lead)) if made else None


async def hold(
    session: AsyncSession, workspace_id: UUID, lead_id: UUID, field_keys: Sequence[str]
) -> Held | None:
    """Lock a lead and read it, with the named fields of its form; None if there is no such lead."""
    lock = select(Lead).where(
        Lead.workspace_id == workspace_id, Lead.id == lead_id, Lead.deleted_at.is_(None)
    )
    lead = (await session.execute(lock.with_for_update())).scalar_one_or_none()
    if lead is None:
        return None
    if not field_keys:
        return Held(lead, {}, {})
    found = await leads.get_with_fields(session, workspace_id, lead_id)
    questions = await _questions(session, workspace_id, lead.workflow_id, field_keys)
    return Held(lead, found.fields if found else {}, questions)


async def _questions(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, field_keys: Sequence[str]
) -> dict[str, Field]:
    found = await session.execute(
        select(
            FormField.field_key,
            FormField.label,
            FormField.field_type,
            FormField.options,
            FormField.is_required,
            FormField.help_text,
            FormField.validation,
        ).where(
            FormField.workspace_id == workspace_id,
            FormField.workflow_id == workflow_id,
            FormField.field_key.in_(field_keys),
        )
    )
    return {row["field_key"]: Field.model_validate(dict(row)) for row in found.mappings()}


async def change_email(session: AsyncSession, workspace_id: UUID, lead_id: UUID, email: str) -> bool:
    """Give a lead another address; False if another lead of its workflow has it."""
    other = aliased(Lead)
    taken = exists().where(
        other.workspace_id == Lead.workspace_id,
        other.workflow_id == Lead.workflow_id,
        other.email == email,
        other.id != Lead.id,
    )
    changed = await session.execute(
        update(Lead)
        .where(Lead.workspace_id == workspace_id, Lead.id == lead_id, ~taken)
        .values(email=email)
        .returning(Lead.id)
        .execution_options(synchronize_session=False)
    )
    return changed.first() is not None
