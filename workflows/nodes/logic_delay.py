"""LOGIC_DELAY: the run sleeps, for a while, until a moment or until a time of day."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from workflows import moments
from workflows.messages import Outcome
from workflows.nodetype import MaybeTemplate, NodeConfig, NodeType, Refused, Result, Situation, Template

LONGEST = moments.Span(months=120)
_SOME_DAY = datetime(2001, 1, 1, tzinfo=UTC)
_LOCAL_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_PLACEHOLDER = re.compile(r"\{[{%]")


def duration_of(text: str) -> moments.Span:
    """Read an ISO 8601 duration of 0 to 10 years; Refused says what is wrong with it."""
    span = moments.span_in(text)
    if span is None:
        raise Refused("bad_duration", f"{text[:64]!r} is not an ISO 8601 duration such as PT90M, P3D or P1M.")
    if min(span.months, span.days, span.seconds) < 0:
        raise Refused("negative_delay", "A delay cannot be negative.")
    if span.after(_SOME_DAY) > LONGEST.after(_SOME_DAY):
        raise Refused("delay_too_long", "A delay lasts 10 years at most.")
    return span


def _zone(name: str) -> str:
    if moments.zone_named(name) is None:
        raise PydanticCustomError("unknown_timezone", "There is no time zone of this name.")
    return name


def _weekday(value: object) -> int:
    number = moments.weekday_in(value)
    if number is None:
        raise PydanticCustomError("unknown_weekday", "A weekday is mon to sun, or 1 (Monday) to 7.")
    return number


def _time_of_day(text: str) -> str:
    if not _LOCAL_TIME.fullmatch(text):
        raise PydanticCustomError("bad_local_time", "A time of day is written 09:30, on the 24-hour clock.")
    return text


class Config(NodeConfig):
    """How long; the fields that the chosen mode needs must be there."""

    mode: Literal["duration", "until", "local_time"] = "duration"
    duration: Template | None = None
    until: MaybeTemplate | None = None
    local_time: Annotated[str, AfterValidator(_time_of_day)] | None = None
    weekdays: list[int] = Field(default_factory=list, max_length=7)
    timezone: Annotated[str, AfterValidator(_zone)] | None = None
    if_past: Literal["continue", "skip"] = "continue"
    if_missing: Literal["fail", "skip"] = "fail"

    @field_validator("weekdays", mode="before")
    @classmethod
    def _read_weekdays(cls, value: object) -> object:
        return sorted({_weekday(item) for item in value}) if isinstance(value, list) else value

    @field_validator("duration")
    @classmethod
    def _check_duration(cls, value: str | None) -> str | None:
        """Judge at save what holds no template; the step judges the rest."""
        if value is None or _PLACEHOLDER.search(value):
            return value
        try:
            duration_of(value)
        except Refused as error:
            raise PydanticCustomError("bad_duration", "{reason}", {"reason": error.message}) from error
        return value

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        # A missing `until` is for `ifMissing` to judge, as rendering may have left nothing of it.
        if self.mode == "duration" and self.duration is None:
            raise PydanticCustomError("missing_duration", "The mode `duration` needs a duration.")
        if self.mode == "local_time" and self.local_time is None:
            raise PydanticCustomError("missing_local_time", "The mode `local_time` needs a localTime.")
        return self


class Output(Result):
    """Until when the run slept, or why it did not."""

    until: datetime | None
    waited: bool
    reason: Literal["missing", "past"] = "past"


class Delay(NodeType):
    """Sleeps."""

    name = "LOGIC_DELAY"
    title = "Wait"
    summary = (
        "Waits for a duration, until a moment that a template names, or until the next time of day in the "
        "node's, the lead's or the workspace's time zone. A run sleeps safely for up to 10 years."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {"mode": "duration", "duration": "P3D"}
    failure = ("missing_moment", {"mode": "until", "until": "{{ trigger.meeting }}"})
    decides = True
    zoned = True

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Work out the moment at which the run goes on."""
        return _MODES[situation.config.mode](situation)


def _for_duration(situation: Situation) -> Outcome:
    here = situation.now.astimezone(_zone_of(situation))
    return _sleep(duration_of(situation.config.duration).after(here), situation)


def _until_moment(situation: Situation) -> Outcome:
    config: Config = situation.config
    text = (config.until or "").strip()
    if not text:
        if config.if_missing == "skip":
            return Outcome(output={"until": None, "waited": False, "reason": "missing"})
        raise Refused("missing_moment", "until: there is no moment to wait for.")
    moment = moments.moment_in(text, now=situation.now, zone=_zone_of(situation))
    if moment is None:
        raise Refused("bad_moment", f"until: {text[:64]!r} is not a date or a moment.")
    if moment.at > LONGEST.after(situation.now):
        raise Refused("delay_too_long", "until: a delay lasts 10 years at most.")
    if moment.at > situation.now:
        return _sleep(moment.at, situation)
    output = {"until": _shown(moment.at), "waited": False, "reason": "past"}
    return Outcome(output=output, handles=("default",) if config.if_past == "continue" else ())


def _until_local_time(situation: Situation) -> Outcome:
    config: Config = situation.config
    zone = _zone_of(situation)
    at = time.fromisoformat(config.local_time or "")
    first = situation.now.astimezone(zone).date()
    # Eight days: today's occurrence may be over while today is the only weekday allowed.
    days = (first + timedelta(days=ahead) for ahead in range(9))
    allowed = (day for day in days if not config.weekdays or day.isoweekday() in config.weekdays)
    moment = next(moment for day in allowed if (moment := _at(day, at, zone)) > situation.now)
    return _sleep(moment, situation)


def _at(day: date, at: time, zone: Any) -> datetime:
    """Find the moment of a local time: the first of two, or moved on by the gap where there is none."""
    return datetime.combine(day, at, zone).astimezone(UTC)


def _sleep(moment: datetime, situation: Situation) -> Outcome:
    wake_at = moment.astimezone(UTC)
    return Outcome(output={"until": _shown(wake_at), "waited": True}, wake_at=wake_at)


def _zone_of(situation: Situation) -> Any:
    name = situation.config.timezone
    return ZoneInfo(name) if name else moments.zone_or_utc(situation.zone)


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


_MODES: dict[str, Callable[[Situation], Outcome]] = {
    "duration": _for_duration,
    "until": _until_moment,
    "local_time": _until_local_time,
}
