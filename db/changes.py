"""What a run changes in a lead: read under a lock, so that what is added to is what is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from db import leads
from db.models import FormField, Lead
from workflows.fields import Field


@dataclass(frozen=True)
class Held:
    """A lead that nobody else changes in this transaction, and the form fields asked for."""

    lead: Lead
    answers: Mapping[str, str | None]
    fields: Mapping[str, Field]


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
