"""What nodes write into a lead: worked out against what is there, checked, written under its lock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from activities.errors import StepFailed
from db import changes, leads
from db.changes import Held
from workflows import amounts, fields, moments

Mode = Literal["overwrite", "if_empty", "append", "increment"]
GUARDED = {"id", "workflow_id", "created_at", "updated_at", "name", "events", "fields"}
LONGEST = 500
SEPARATOR = ", "


class BadValue(StepFailed):
    """A value that its field cannot take; the message begins with the field."""


@dataclass(frozen=True)
class Plan:
    """The values to be stored, as text."""

    email: str | None = None
    columns: dict[str, str | None] = field(default_factory=dict)
    answers: dict[str, str | None] = field(default_factory=dict)

    @property
    def changed(self) -> list[str]:
        """Name the fields that get a new value."""
        return [*(["email"] if self.email else []), *self.columns, *self.answers]


async def make(
    session: AsyncSession,
    workspace_id: UUID,
    lead_id: UUID,
    values: Mapping[str, Any],
    *,
    mode: Mode = "overwrite",
    setting: str,
) -> list[str]:
    """Write values into a lead and name what changed; raises StepFailed naming the field in its setting."""
    held = await changes.hold(session, workspace_id, lead_id, answers_in(values))
    if held is None:
        raise StepFailed("lead_gone", "The lead no longer exists.")
    try:
        plan = planned(values, mode, held)
        await _write(session, workspace_id, lead_id, plan)
    except BadValue as error:
        raise StepFailed(error.type, f"{setting}.{error.message}") from error
    return plan.changed


def answers_in(values: Mapping[str, Any]) -> list[str]:
    """Name what is to be written that is none of a lead's own columns."""
    return [name for name in values if name not in {"email", *leads.COLUMNS}]


async def _write(session: AsyncSession, workspace_id: UUID, lead_id: UUID, plan: Plan) -> None:
    place = (session, workspace_id, lead_id)
    if plan.email is not None and not await changes.change_email(*place, plan.email):
        raise BadValue("email_taken", "email: another lead of this workflow has this address.")
    if plan.columns:
        await leads.update_columns(*place, plan.columns)
    if plan.answers:
        await leads.set_fields(*place, plan.answers)


def planned(values: Mapping[str, Any], mode: Mode, held: Held) -> Plan:
    """Work out what changes; raises BadValue naming the field."""
    plan = Plan()
    for name, value in values.items():
        if name == "email":
            plan = Plan(_email(mode, value, held), plan.columns, plan.answers)
        elif name in leads.COLUMNS:
            _put(plan.columns, name, getattr(held.lead, name), _column(mode, name, value, held))
        elif name in held.fields:
            _put(plan.answers, name, held.answers.get(name), _answer(mode, name, value, held))
        else:
            raise _no_field(name)
    return plan


def _put(into: dict[str, str | None], name: str, before: str | None, after: str | None) -> None:
    if (after or None) != (before or None):
        into[name] = after


def _email(mode: Mode, value: Any, held: Held) -> str | None:
    if mode in ("append", "increment"):
        raise BadValue("bad_mode", f"email: an address cannot take {mode}.")
    if mode == "if_empty":
        return None
    try:
        email = fields.normal_email(str(value or ""))
    except ValueError as error:
        raise BadValue("invalid_value", "email: this is no complete e-mail address.") from error
    return email if email != held.lead.email else None


def _column(mode: Mode, name: str, value: Any, held: Held) -> str | None:
    after = merged(mode, name, getattr(held.lead, name), value)
    if after is None:
        return None
    if len(after) > LONGEST or "\0" in after:
        raise BadValue("invalid_value", f"{name}: a text of at most {LONGEST} characters is needed.")
    if name == "timezone" and moments.zone_named(after) is None:
        raise BadValue("invalid_value", "timezone: there is no time zone of this name.")
    return after


def _answer(mode: Mode, name: str, value: Any, held: Held) -> str | None:
    before = held.answers.get(name)
    after = merged(mode, name, before, value)
    if after is None or after == before:
        return after
    checked = fields.check([held.fields[name]], {name: after})
    if checked.problems:
        raise BadValue("invalid_value", f"{name}: {checked.problems[0].message}")
    return checked.values.get(name)


def merged(mode: Mode, name: str, before: str | None, value: Any) -> str | None:
    """Let a new value meet the old one; None clears the field."""
    if mode == "increment":
        return _sum(name, before, value)
    text = _text(name, value)
    if mode == "if_empty":
        return before or text
    if mode == "append" and before:
        return f"{before}{SEPARATOR}{text}" if text else before
    return text


def _sum(name: str, before: str | None, value: Any) -> str:
    old, new = amounts.number_in(before) if before else Decimal(0), amounts.number_in(value)
    if old is None or new is None:
        raise BadValue("not_a_number", f"{name}: only numbers can be added.")
    total = f"{old + new:f}"
    return total.rstrip("0").rstrip(".") if "." in total else total


def _text(name: str, value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list):
        raise BadValue("invalid_value", f"{name}: a text, a number or yes/no is needed.")
    return None if value is None else str(value).strip() or None


def _no_field(name: str) -> BadValue:
    if name == "status":
        return BadValue("unknown_field", "status: ACTION_SET_LEAD_STATUS changes the status.")
    if name in GUARDED:
        return BadValue("unknown_field", f"{name}: this cannot be changed.")
    return BadValue("unknown_field", f"{name}: neither the lead nor the form has this field.")
