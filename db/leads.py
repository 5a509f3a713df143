"""Leads: one per workflow and e-mail address, their answers, their status and the scope that a run sees."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, cast
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Select, func, literal_column, or_, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db.models import FormField, Lead, LeadEvent, LeadFieldData
from db.session import Single, fetch

COLUMNS = ("first_name", "last_name", "phone", "company", "source", "timezone")
"""What may be written besides e-mail and status, which have rules of their own."""
SET_FIELDS = text("""
    WITH known AS (
        SELECT given.id, f.id AS form_field_id, given.field_key, given.value
        FROM unnest(CAST(:ids AS uuid[]), CAST(:keys AS text[]), CAST(:values AS text[]))
            AS given (id, field_key, value)
        JOIN leads l ON l.workspace_id = :workspace_id AND l.id = :lead_id
        JOIN form_fields f ON f.workspace_id = l.workspace_id AND f.workflow_id = l.workflow_id
            AND f.field_key = given.field_key),
    stored AS (
        INSERT INTO lead_field_data (workspace_id, id, lead_id, form_field_id, value)
        SELECT :workspace_id, id, :lead_id, form_field_id, value FROM known
        ON CONFLICT (workspace_id, lead_id, form_field_id)
            DO UPDATE SET value = excluded.value)
    SELECT field_key FROM known""")

ANSWERS: LiteralString = """
    COALESCE((
        SELECT jsonb_object_agg(f.field_key, d.value) FROM lead_field_data d
        JOIN form_fields f ON f.workspace_id = d.workspace_id AND f.id = d.form_field_id
        WHERE d.workspace_id = l.workspace_id AND d.lead_id = l.id), '{}'::jsonb)
"""
SCOPE = f"""
    SELECT l.id, l.workflow_id, l.email, l.first_name, l.last_name, l.phone, l.company, l.source, l.timezone,
        l.status, l.created_at, {ANSWERS},
        ARRAY(
            SELECT DISTINCT e.event_type FROM lead_events e
            WHERE e.workspace_id = l.workspace_id AND e.lead_id = l.id ORDER BY e.event_type)
    FROM leads l
    WHERE l.workspace_id = %(workspace_id)s AND l.id = %(lead_id)s AND l.deleted_at IS NULL
"""
MOVE = """
    WITH here AS (
        SELECT status FROM leads
        WHERE workspace_id = %(workspace_id)s AND id = %(lead_id)s AND deleted_at IS NULL FOR UPDATE),
    moved AS (
        UPDATE leads SET status = %(status)s, updated_at = now() FROM here
        WHERE workspace_id = %(workspace_id)s AND id = %(lead_id)s AND here.status <> %(status)s
            AND (cardinality(%(allowed)s::text[]) = 0 OR here.status = ANY(%(allowed)s::text[]))
        RETURNING 1)
    SELECT here.status, EXISTS (SELECT FROM moved) FROM here
"""
INTO_EVENTS: LiteralString = """
    INSERT INTO lead_events (workspace_id, id, lead_id, event_type, description, metadata,
        triggered_by_user_id, triggered_by_workflow_execution_id)
"""
EVENT: LiteralString = """
    %(workspace_id)s, %(event_id)s, %(lead_id)s, %(event_type)s, %(description)s, %(metadata)s,
    %(by_user)s, %(by_execution)s
"""
ADD_EVENT = f"{INTO_EVENTS} VALUES ({EVENT}) RETURNING created_at"

CONTACT = """
    SELECT email, unsubscribed_at IS NOT NULL, erased_at IS NOT NULL FROM leads
    WHERE workspace_id = %(workspace_id)s AND id = %(lead_id)s AND deleted_at IS NULL
"""


@dataclass(frozen=True)
class Contact:
    """A lead's address, and whether mail may go there."""

    email: str
    has_unsubscribed: bool
    is_erased: bool


@dataclass(frozen=True)
class Upserted:
    """A lead, and whether this call made it."""

    lead: Lead
    created: bool


@dataclass(frozen=True)
class Moved:
    """What became of a change of status."""

    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Tell whether the lead moved."""
        return self.before != self.after


@dataclass(frozen=True)
class LeadWithFields:
    """A lead with its answers by `field_key` (ERD pattern 1)."""

    lead: Lead
    fields: dict[str, str | None]


@dataclass(frozen=True)
class Filters:
    """Which leads to list."""

    workflow_id: UUID | None = None
    statuses: Sequence[str] = ()
    email: str | None = None
    search: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    include_deleted: bool = False


def normal_email(email: str) -> str:
    """Write an address the one way it is stored: no capitals, no full-width letters, no blanks around it."""
    return unicodedata.normalize("NFKC", email).strip().lower()


async def upsert(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    workflow_id: UUID,
    email: str,
    values: Mapping[str, str | None] | None = None,
) -> Upserted:
    """Make a workflow's lead or complete the one it has; what is not given stays, deleted ones come back."""
    given = _checked(values or {})
    row = {"workspace_id": workspace_id, "id": uuid7(), "workflow_id": workflow_id, **given}
    statement = insert(Lead).values(email=normal_email(email), **row)
    kept = {name: func.coalesce(statement.excluded[name], getattr(Lead, name)) for name in given}
    created = literal_column("leads.xmax = 0", Boolean).label("created")
    query = statement.on_conflict_do_update(
        index_elements=["workspace_id", "workflow_id", "email"],
        set_={**kept, "deleted_at": None, "updated_at": func.now()},
    ).returning(Lead, created)
    lead, is_new = (await session.execute(query, execution_options={"populate_existing": True})).one()
    return Upserted(lead, is_new)


async def get(
    session: AsyncSession, workspace_id: UUID, lead_id: UUID, *, include_deleted: bool = False
) -> Lead | None:
    """Read a lead."""
    query = select(Lead).where(*_one(workspace_id, lead_id))
    if not include_deleted:
        query = query.where(Lead.deleted_at.is_(None))
    return (await session.execute(query)).scalar_one_or_none()


async def contact(session: AsyncSession | Single, workspace_id: UUID, lead_id: UUID) -> Contact | None:
    """Read whom a mail to a lead would go to, as it stands now."""
    found = await fetch(session, CONTACT, {"workspace_id": workspace_id, "lead_id": lead_id})
    return Contact(*found[0]) if found else None


async def find(session: AsyncSession, workspace_id: UUID, *, workflow_id: UUID, email: str) -> Lead | None:
    """Read a workflow's lead by e-mail address."""
    query = select(Lead).where(
        Lead.workspace_id == workspace_id,
        Lead.workflow_id == workflow_id,
        Lead.email == normal_email(email),
        Lead.deleted_at.is_(None),
    )
    return (await session.execute(query)).scalar_one_or_none()


def with_fields(workspace_id: UUID, lead_id: UUID) -> Select[Lead, dict[str, str | None]]:
    """Build ERD pattern 1, its joins held inside the workspace; no answers are an empty object."""
    answers = func.coalesce(
        func.jsonb_object_agg(FormField.field_key, LeadFieldData.value, type_=JSONB).filter(
            FormField.field_key.is_not(None)
        ),
        func.jsonb_build_object(type_=JSONB),
        type_=JSONB,
    )
    data = (LeadFieldData.workspace_id == Lead.workspace_id) & (LeadFieldData.lead_id == Lead.id)
    field = (FormField.workspace_id == Lead.workspace_id) & (FormField.id == LeadFieldData.form_field_id)
    return (
        select(Lead, answers.label("fields"))
        .outerjoin(LeadFieldData, data)
        .outerjoin(FormField, field)
        .where(*_one(workspace_id, lead_id))
        .group_by(Lead.workspace_id, Lead.id)
    )


async def get_with_fields(session: AsyncSession, workspace_id: UUID, lead_id: UUID) -> LeadWithFields | None:
    """Read a lead with its answers (ERD pattern 1)."""
    query = with_fields(workspace_id, lead_id).where(Lead.deleted_at.is_(None))
    row = (await session.execute(query)).one_or_none()
    return LeadWithFields(row[0], row[1]) if row else None


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: UUID | None = None,
    filters: Filters | None = None,
) -> Sequence[Lead]:
    """List leads, newest first; `before` is the id of the last one seen."""
    query = select(Lead).where(Lead.workspace_id == workspace_id, *_conditions(filters or Filters()))
    if before is not None:
        query = query.where(Lead.id < before)
    return (await session.execute(query.order_by(Lead.id.desc()).limit(limit))).scalars().all()


async def update_columns(
    session: AsyncSession, workspace_id: UUID, lead_id: UUID, values: Mapping[str, str | None]
) -> Lead | None:
    """Write some of a lead's own columns; None if there is no such lead."""
    changes = _checked(values)
    if not changes:
        return await get(session, workspace_id, lead_id)
    changed = await session.execute(
        update(Lead)
        .where(*_one(workspace_id, lead_id), Lead.deleted_at.is_(None))
        .values(**changes)
        .returning(Lead)
        .execution_options(populate_existing=True)
    )
    return changed.scalar_one_or_none()


async def set_status(
    session: AsyncSession,
    workspace_id: UUID,
    lead_id: UUID,
    status: str,
    *,
    allowed_from: Sequence[str] = (),
) -> Moved | None:
    """Move a lead on the board if it stands where it may come from; None if there is no such lead."""
    given = {"status": status, "allowed": list(allowed_from)}
    found = await fetch(session, MOVE, {"workspace_id": workspace_id, "lead_id": lead_id, **given})
    if not found:
        return None
    ((before, moved),) = found
    return Moved(before, status if moved else before)


async def remove(session: AsyncSession, workspace_id: UUID, lead_id: UUID) -> bool:
    """Delete a lead softly; its history stays."""
    removed = await session.execute(
        update(Lead)
        .where(*_one(workspace_id, lead_id), Lead.deleted_at.is_(None))
        .values(deleted_at=func.now())
        .returning(Lead.id)
    )
    return removed.first() is not None


async def unsubscribe(session: AsyncSession, workspace_id: UUID, lead_id: UUID) -> str | None:
    """Send a lead's address no more marketing, whatever form it came in by; None if the lead is unknown."""
    email = (select(Lead.email).where(*_one(workspace_id, lead_id))).scalar_subquery()
    left = await session.execute(
        update(Lead)
        .where(Lead.workspace_id == workspace_id, Lead.email == email, Lead.unsubscribed_at.is_(None))
        .values(unsubscribed_at=func.now())
        .returning(Lead.id)
    )
    for each in left.scalars().all():
        await add_event(session, workspace_id, each, "UNSUBSCRIBED")
    query = select(Lead.email).where(*_one(workspace_id, lead_id))
    return (await session.execute(query)).scalar_one_or_none()


async def set_fields(
    session: AsyncSession, workspace_id: UUID, lead_id: UUID, answers: Mapping[str, str | None]
) -> set[str]:
    """Write answers by `field_key`, all in one statement, and return the keys that the lead's form has."""
    if not answers:
        return set()
    given = {"ids": [uuid7() for _ in answers], "keys": list(answers), "values": list(answers.values())}
    ids = {"workspace_id": workspace_id, "lead_id": lead_id}
    return set((await session.execute(SET_FIELDS, {**ids, **given})).scalars())


async def scope(session: AsyncSession | Single, workspace_id: UUID, lead_id: UUID) -> dict[str, Any] | None:
    """Build the `lead` scope of conditions and templates: plain JSON, the answers under `fields`."""
    return scoped(await fetch(session, SCOPE, {"workspace_id": workspace_id, "lead_id": lead_id}))


def scoped(found: Sequence[Any]) -> dict[str, Any] | None:
    """Build the scope from what SCOPE found."""
    if not found:
        return None
    ((own_id, workflow_id, email, *values, status, created_at, fields, events),) = found
    own = dict(zip(COLUMNS, values, strict=True))
    return {
        "id": str(own_id),
        "workflow_id": str(workflow_id),
        "email": email,
        **own,
        "status": status,
        "name": _name(own["first_name"], own["last_name"], email),
        "created_at": created_at.isoformat(),
        "fields": fields,
        "events": events,
    }


def full_name(lead: Lead) -> str:
    """Name a lead by first and last name, else by the address before its @."""
    return _name(lead.first_name, lead.last_name, lead.email)


def _name(first: str | None, last: str | None, email: str) -> str:
    return " ".join(filter(None, (first, last))) or email.partition("@")[0]


async def add_event(
    session: AsyncSession,
    workspace_id: UUID,
    lead_id: UUID,
    event_type: str,
    *,
    description: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    user_id: UUID | None = None,
    execution_id: UUID | None = None,
) -> LeadEvent:
    """Append to a lead's history, with the person or the run that caused it."""
    event = LeadEvent(
        workspace_id=workspace_id,
        id=uuid7(),
        lead_id=lead_id,
        event_type=event_type,
        description=description,
        event_metadata=dict(metadata or {}),
        triggered_by_user_id=user_id,
        triggered_by_workflow_execution_id=execution_id,
    )
    values = event_of(
        workspace_id,
        lead_id,
        event_type,
        description=description,
        metadata=metadata,
        execution_id=execution_id,
    )
    event.created_at = await append(session, {**values, "event_id": event.id, "by_user": user_id})
    return event


async def append(session: AsyncSession, event: Mapping[str, Any]) -> datetime:
    """Append to a lead's history what `event_of` gave, and return its time."""
    ((created_at,),) = await fetch(session, ADD_EVENT, event)
    return cast(datetime, created_at)


def event_of(
    workspace_id: UUID,
    lead_id: UUID,
    event_type: str,
    *,
    description: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    execution_id: UUID | None = None,
) -> dict[str, Any]:
    """Give the values of EVENT, for a line of a lead's history that a run writes."""
    return {
        "workspace_id": workspace_id,
        "event_id": uuid7(),
        "lead_id": lead_id,
        "event_type": event_type,
        "description": description,
        "metadata": dict(metadata or {}),
        "by_user": None,
        "by_execution": execution_id,
    }


async def events(
    session: AsyncSession, workspace_id: UUID, lead_id: UUID, *, limit: int, before: UUID | None = None
) -> Sequence[LeadEvent]:
    """List a lead's history, newest first."""
    query = select(LeadEvent).where(LeadEvent.workspace_id == workspace_id, LeadEvent.lead_id == lead_id)
    if before is not None:
        query = query.where(LeadEvent.id < before)
    return (await session.execute(query.order_by(LeadEvent.id.desc()).limit(limit))).scalars().all()


async def events_since(
    session: AsyncSession,
    workspace_id: UUID,
    lead_id: UUID,
    *,
    types: Collection[str],
    since: datetime,
    told: Collection[UUID] = (),
) -> Sequence[LeadEvent]:
    """List a lead's events of these types, oldest first: those since a moment and those named by their ids.

    Of very many, the newest thousand.
    """
    query = (
        select(LeadEvent)
        .where(
            LeadEvent.workspace_id == workspace_id,
            LeadEvent.lead_id == lead_id,
            LeadEvent.event_type.in_(types),
            or_(LeadEvent.created_at >= since, LeadEvent.id.in_(told)),
        )
        .order_by(LeadEvent.id.desc())
        .limit(1000)
    )
    return (await session.execute(query)).scalars().all()[::-1]


def _one(workspace_id: UUID, lead_id: UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Lead.workspace_id == workspace_id, Lead.id == lead_id


def _checked(values: Mapping[str, str | None]) -> dict[str, str | None]:
    unknown = set(values) - set(COLUMNS)
    if unknown:
        raise ValueError(f"a lead has no column {', '.join(sorted(unknown))} to write")
    return dict(values)


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if not filters.include_deleted:
        found.append(Lead.deleted_at.is_(None))
    if filters.workflow_id is not None:
        found.append(Lead.workflow_id == filters.workflow_id)
    if filters.statuses:
        found.append(Lead.status.in_(filters.statuses))
    if filters.email is not None:
        found.append(Lead.email == normal_email(filters.email))
    if filters.created_after is not None:
        found.append(Lead.created_at >= filters.created_after)
    if filters.created_before is not None:
        found.append(Lead.created_at < filters.created_before)
    if filters.search:
        columns = (Lead.email, Lead.first_name, Lead.last_name, Lead.company)
        found.append(or_(*(column.icontains(filters.search, autoescape=True) for column in columns)))
    return found
