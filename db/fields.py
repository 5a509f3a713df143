"""Form fields: the questions of a workflow's public form, in their order (ERD §8)."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, delete, func, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import workflows
from db.models import FormField, LeadFieldData
from workflows.questions import FIELDS_CAP, Field

CHANGEABLE = (
    "field_key",
    "label",
    "field_type",
    "options",
    "is_required",
    "placeholder",
    "help_text",
    "validation",
)


class KeyTaken(Exception):
    """The form has a field with this key."""


class TooMany(Exception):
    """The form has as many fields as a form can have."""


class HasAnswers(Exception):
    """Leads have answered this field; deleting it deletes their answers."""

    def __init__(self, count: int) -> None:
        super().__init__(f"the field has {count} answers")
        self.count = count


class WrongOrder(Exception):
    """The order does not name each field of the form once."""


async def every(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> Sequence[FormField]:
    """List a form's fields in their order."""
    query = (
        select(FormField)
        .where(FormField.workspace_id == workspace_id, FormField.workflow_id == workflow_id)
        .order_by(FormField.position, FormField.id)
        .execution_options(populate_existing=True)
    )
    return (await session.execute(query)).scalars().all()


async def form(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> tuple[Field, ...]:
    """Read a form as validation and answers need it."""
    return tuple(as_field(row) for row in await every(session, workspace_id, workflow_id))


def as_field(row: FormField) -> Field:
    """Read one stored field."""
    return Field.model_validate({name: getattr(row, name) for name in CHANGEABLE})


async def get(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, field_id: UUID
) -> FormField | None:
    """Read one field of a workflow's form."""
    query = select(FormField).where(*_one(workspace_id, workflow_id, field_id))
    return (await session.execute(query)).scalar_one_or_none()


async def add(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, values: Mapping[str, Any]
) -> FormField | None:
    """Add a field at the end of the form; None if there is no such workflow."""
    given = _checked(values)
    if await workflows.lock(session, workspace_id, workflow_id) is None:
        return None
    here = (FormField.workspace_id == workspace_id, FormField.workflow_id == workflow_id)
    count, last = (
        await session.execute(select(func.count(), func.max(FormField.position)).where(*here))
    ).one()
    if count >= FIELDS_CAP:
        raise TooMany
    position = 0 if last is None else last + 1
    row = FormField(
        workspace_id=workspace_id, id=uuid7(), workflow_id=workflow_id, position=position, **given
    )
    session.add(row)
    await _flush(session)
    return row


async def change(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, field_id: UUID, values: Mapping[str, Any]
) -> FormField | None:
    """Write some of a field's columns; None if there is no such field."""
    given = _checked(values)
    if not given:
        return await get(session, workspace_id, workflow_id, field_id)
    statement = (
        update(FormField)
        .where(*_one(workspace_id, workflow_id, field_id))
        .values(**given)
        .returning(FormField)
        .execution_options(populate_existing=True)
    )
    try:
        return (await session.execute(statement)).scalar_one_or_none()
    except IntegrityError as error:
        raise _translated(error) from error


async def reorder(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, field_ids: Sequence[UUID]
) -> Sequence[FormField] | None:
    """Put a form's fields into this order; None if there is no such workflow."""
    if await workflows.lock(session, workspace_id, workflow_id) is None:
        return None
    known = {row.id for row in await every(session, workspace_id, workflow_id)}
    if len(field_ids) != len(known) or set(field_ids) != known:
        raise WrongOrder
    order = func.array_position(literal(list(field_ids), ARRAY(Uuid)), FormField.id) - 1
    await session.execute(
        update(FormField)
        .where(FormField.workspace_id == workspace_id, FormField.workflow_id == workflow_id)
        .values(position=order)
        .execution_options(synchronize_session=False)
    )
    return await every(session, workspace_id, workflow_id)


async def remove(
    session: AsyncSession,
    workspace_id: UUID,
    workflow_id: UUID,
    field_id: UUID,
    *,
    delete_answers: bool = False,
) -> bool:
    """Delete a field, and its answers only if that is wanted; False if there is no such field."""
    # The lock keeps new answers out: each takes a share lock on its field.
    locked = select(FormField.id).where(*_one(workspace_id, workflow_id, field_id)).with_for_update()
    if (await session.execute(locked)).first() is None:
        return False
    answers = (LeadFieldData.workspace_id == workspace_id, LeadFieldData.form_field_id == field_id)
    if delete_answers:
        await session.execute(delete(LeadFieldData).where(*answers))
    else:
        count = (
            await session.execute(select(func.count()).select_from(LeadFieldData).where(*answers))
        ).scalar_one()
        if count:
            raise HasAnswers(count)
    await session.execute(delete(FormField).where(*_one(workspace_id, workflow_id, field_id)))
    return True


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    unknown = set(values) - set(CHANGEABLE)
    if unknown:
        raise ValueError(f"not to be written here: {', '.join(sorted(unknown))}")
    return dict(values)


async def _flush(session: AsyncSession) -> None:
    try:
        await session.flush()
    except IntegrityError as error:
        raise _translated(error) from error


def _translated(error: IntegrityError) -> Exception:
    taken = workflows.constraint_of(error) == "form_fields_field_key_key"
    return KeyTaken() if taken else error


def _one(workspace_id: UUID, workflow_id: UUID, field_id: UUID) -> tuple[Any, ...]:
    return (
        FormField.workspace_id == workspace_id,
        FormField.workflow_id == workflow_id,
        FormField.id == field_id,
    )
