"""A simulated run's imagined world: what stands in for effects, and the lead that they would change."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field, JsonValue

from workflows import moments
from workflows.fields import Field as FormField
from workflows.graph import Frozen
from workflows.messages import (
    BeginInput,
    EdgeRule,  # noqa: F401 - what StepInput names before it is there, its heirs must find here
    LogLine,
    Outcome,
    StepError,
    StepInput,
)

NOTE = "simulated"
"""The message of the log lines by which a simulated step tells what an outcome has no place for."""
LONGEST_DAYS = 25 * 366
"""Virtual time that a simulation may take; a single delay lasts ten years at most."""
_SHORT = re.compile(
    r"\+?(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII
)

Lead = dict[str, Any]


class Stub(Frozen):
    """What a node gives instead of doing its work: an output and a way out, or an error."""

    output: JsonValue = None
    handle: str | None = None
    error: StepError | None = None


class Plan(Frozen):
    """What a simulated run is told of its surroundings; nothing in it is read from anywhere later."""

    workspace: dict[str, JsonValue] = Field(default_factory=dict)
    workflow: dict[str, JsonValue] = Field(default_factory=dict)
    lead: dict[str, JsonValue] | None = None
    stubs: dict[str, Stub] = Field(default_factory=dict)
    """By node id."""
    fields: tuple[FormField, ...] = ()
    """The workflow's form: what a lead may be given besides its own columns."""
    changes: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """What a scripted event makes of the lead, by the event's id."""


class ImaginedBegin(BeginInput):
    """Asks to admit a simulated run."""

    plan: Plan


class ImaginedStep(StepInput):
    """One visit of one node in a simulated run, with everything its activity would look up."""

    now: datetime
    """The run's own time."""
    lead: dict[str, JsonValue] | None = None
    stub: Stub | None = None
    fields: tuple[FormField, ...] = ()


def lead_scope(given: Mapping[str, Any], *, id_: str, workflow_id: str, now: datetime) -> Lead:
    """Build the `lead` scope as a stored lead has it."""
    own = {name: given.get(name) for name in ("first_name", "last_name", "phone", "company")}
    own |= {name: given.get(name) for name in ("source", "timezone")}
    lead = {
        "id": id_,
        "workflow_id": workflow_id,
        "email": given["email"],
        **own,
        "status": given.get("status") or "NEW",
        "created_at": now.isoformat(),
        "fields": dict(given.get("fields") or {}),
        "events": list(given.get("events") or ()),
    }
    return renamed(lead)


def renamed(lead: Mapping[str, Any]) -> Lead:
    """Work a lead's full name out anew."""
    parts = (lead.get("first_name"), lead.get("last_name"))
    name = " ".join(filter(None, parts)) or str(lead.get("email") or "").partition("@")[0]
    return {**lead, "name": name}


def changed(lead: Mapping[str, Any], changes: Mapping[str, Any]) -> Lead:
    """Write changes into a lead; its form's answers are changed one by one."""
    answers = {**lead.get("fields", {}), **(changes.get("fields") or {})}
    return renamed({**lead, **changes, "fields": answers})


def with_event(lead: Mapping[str, Any], event_type: str) -> Lead:
    """Note that something happened to the lead."""
    return {**lead, "events": sorted({*lead.get("events", ()), event_type})}


def meeting(current: Lead | None, before: Lead | None, after: Lead) -> Lead:
    """Bring what one step made of the lead together with what others made of it meanwhile."""
    if current is None or before is None or current == before:
        return after
    mine = {key: value for key, value in after.items() if value != before.get(key)}
    answers, known = mine.pop("fields", {}), before.get("fields", {})
    fresh = {key: value for key, value in answers.items() if value != known.get(key)}
    events = sorted({*current.get("events", ()), *mine.pop("events", ())})
    return changed({**current, "events": events}, {**mine, "fields": fresh})


def note(data: Mapping[str, Any], outcome: Outcome) -> Outcome:
    """Have a simulated step tell something besides its outcome."""
    return outcome.model_copy(update={"log": (*outcome.log, LogLine(message=NOTE, data=dict(data)))})


def notes(outcome: Outcome) -> list[dict[str, Any]]:
    """Read what a simulated step told."""
    return [line.data for line in outcome.log if line.message == NOTE and isinstance(line.data, dict)]


def offset_in(text: str, start: datetime) -> timedelta | None:
    """Read how long after the start something happens: "+2d", "+1h30m", "P2D"; None for anything else."""
    span = moments.span_in(text.removeprefix("+"))
    if span is not None:
        offset = span.after(start) - start
        return offset if offset >= timedelta(0) else None
    found = _SHORT.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return None
    weeks, days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def duration(length: timedelta, *, to: int = 60) -> str:
    """Write a length of time as ISO 8601, rounded: real time passes even while it is skipped."""
    total = round(length.total_seconds() / to) * to
    days, rest = divmod(total, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    clock = "".join(
        f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number
    )
    return f"P{days}D{'T' + clock if clock else ''}" if days else f"PT{clock or '0S'}"
