"""Writes into the lead what the run learned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from activities.errors import StepFailed
from activities.step import Step
from activities.world import World
from db import changes, effects, leads
from db.changes import Held
from workflows import amounts, fields, moments
from workflows.messages import Outcome
from workflows.nodes.action_update_lead import Config

EVENT = "LEAD_UPDATED"
GUARDED = {"id", "workflow_id", "created_at", "updated_at", "name", "events", "fields"}
LONGEST = 500
SEPARATOR = ", "


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


async def run(step: Step, world: World) -> Outcome:
    """Change the lead and write the event that tells of it, in one transaction and once."""
    async with world.database.workspace(step.workspace_id) as session:
        output = await effects.once(session, step.effect("update"), lambda: _update(session, step))
        lead = await leads.scope(session, step.workspace_id, step.lead_id)
    return Outcome(output=output, lead=lead)


async def _update(session: AsyncSession, step: Step) -> dict[str, Any]:
    config: Config = step.config
    own = {"email", *leads.COLUMNS}
    keys = [name for name in config.set if name not in own]
    held = await changes.hold(session, step.workspace_id, step.lead_id, keys)
    if held is None:
        raise StepFailed("lead_gone", "The lead no longer exists.")
    plan = planned(config, held)
    if plan.changed:
        await _write(session, step, plan)
    return {"changed": plan.changed}


async def _write(session: AsyncSession, step: Step, plan: Plan) -> None:
    place = (session, step.workspace_id, step.lead_id)
    if plan.email is not None and not await changes.change_email(*place, plan.email):
        raise StepFailed("email_taken", "set.email: another lead of this workflow has this address.")
    if plan.columns:
        await leads.update_columns(*place, plan.columns)
    if plan.answers:
        await leads.set_fields(*place, plan.answers)
    await leads.add_event(
        *place,
        EVENT,
        description=f"Updated {', '.join(plan.changed)}",
        metadata={"fields": plan.changed},
        execution_id=step.given.execution_id,
    )


def planned(config: Config, held: Held) -> Plan:
    """Work out what changes; raises StepFailed naming the field."""
    plan = Plan()
    for name, value in config.set.items():
        if name == "email":
            plan = Plan(_email(config.mode, value, held), plan.columns, plan.answers)
        elif name in leads.COLUMNS:
            _put(plan.columns, name, getattr(held.lead, name), _column(config.mode, name, value, held))
        elif name in held.fields:
            _put(plan.answers, name, held.answers.get(name), _answer(config.mode, name, value, held))
        else:
            raise _no_field(name)
    return plan


def _put(into: dict[str, str | None], name: str, before: str | None, after: str | None) -> None:
    if (after or None) != (before or None):
        into[name] = after


def _email(mode: str, value: Any, held: Held) -> str | None:
    if mode in ("append", "increment"):
        raise StepFailed("bad_mode", f"set.email: an address cannot take {mode}.")
    if mode == "if_empty":
        return None
    try:
        email = fields.normal_email(str(value or ""))
    except ValueError as error:
        raise StepFailed("invalid_value", "set.email: this is no complete e-mail address.") from error
    return email if email != held.lead.email else None


def _column(mode: str, name: str, value: Any, held: Held) -> str | None:
    after = merged(mode, name, getattr(held.lead, name), value)
    if after is None:
        return None
    if len(after) > LONGEST or "\0" in after:
        raise StepFailed("invalid_value", f"set.{name}: a text of at most {LONGEST} characters is needed.")
    if name == "timezone" and moments.zone_named(after) is None:
        raise StepFailed("invalid_value", "set.timezone: there is no time zone of this name.")
    return after


def _answer(mode: str, name: str, value: Any, held: Held) -> str | None:
    before = held.answers.get(name)
    after = merged(mode, name, before, value)
    if after is None or after == before:
        return after
    checked = fields.check([held.fields[name]], {name: after})
    if checked.problems:
        raise StepFailed("invalid_value", f"set.{name}: {checked.problems[0].message}")
    return checked.values.get(name)


def merged(mode: str, name: str, before: str | None, value: Any) -> str | None:
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
        raise StepFailed("not_a_number", f"set.{name}: only numbers can be added.")
    total = f"{old + new:f}"
    return total.rstrip("0").rstrip(".") if "." in total else total


def _text(name: str, value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list):
        raise StepFailed("invalid_value", f"set.{name}: a text, a number or yes/no is needed.")
    return None if value is None else str(value).strip() or None


def _no_field(name: str) -> StepFailed:
    if name == "status":
        return StepFailed("unknown_field", "set.status: ACTION_SET_LEAD_STATUS changes the status.")
    if name in GUARDED:
        return StepFailed("unknown_field", f"set.{name}: this cannot be changed.")
    return StepFailed("unknown_field", f"set.{name}: neither the lead nor the form has this field.")
