"""Days, moments and spans as they stand in answers, rules and templates; now and zone are always given."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

TEXT_CAP = 64
YEARS_CAP = 1_000
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?\s?([Zz]|[+-]\d{2}(?::?\d{2})?)?", re.ASCII
)
_MAIL = re.compile(r"(?:[A-Za-z]{3}, )?\d{1,2} [A-Za-z]{3} \d{4} \d{2}:\d{2}", re.ASCII)
_SPAN = re.compile(
    r"(?P<sign>-?)P(?:(?P<years>\d{1,4})Y)?(?:(?P<months>\d{1,5})M)?(?:(?P<weeks>\d{1,5})W)?(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?:(?P<hours>\d{1,7})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,10})S)?)?",
    re.ASCII,
)
_UNITS = ("years", "months", "weeks", "days", "hours", "minutes", "seconds")


@dataclass(frozen=True)
class Moment:
    """A point in time, or a whole day where only the day was given."""

    at: datetime
    whole_day: bool = False

    @property
    def day(self) -> date:
        """The calendar day in the zone it was read in."""
        return self.at.date()


@dataclass(frozen=True)
class Span:
    """A length of time: months follow the calendar, everything else the clock."""

    months: int = 0
    days: int = 0
    seconds: int = 0

    def after(self, start: datetime) -> datetime:
        """Return the moment this long after start; the wall clock keeps its time over whole days."""
        month = start.year * 12 + start.month - 1 + self.months
        year, month = divmod(month, 12)
        day = min(start.day, _days_in(year, month + 1))
        moved = start.replace(year=year, month=month + 1, day=day) + timedelta(days=self.days)
        if not self.seconds:
            return moved
        return (moved.astimezone(UTC) + timedelta(seconds=self.seconds)).astimezone(start.tzinfo)

    def before(self, end: datetime) -> datetime:
        """Return the moment this long before end."""
        return Span(-self.months, -self.days, -self.seconds).after(end)


@lru_cache(maxsize=256)
def zone_named(name: str) -> tzinfo | None:
    """Find a zone by its IANA name; None for a name that is none."""
    if not re.fullmatch(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+){0,2}", name, re.ASCII):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # ZoneInfoNotFoundError is a KeyError; a folder of the zone data is an OSError.
        return None


def zone_or_utc(name: str | None) -> tzinfo:
    """Find a zone, or take UTC: a lead's mistyped zone must not stop a run."""
    return (zone_named(name) if name else None) or UTC


def moment_in(value: object, *, now: datetime, zone: tzinfo) -> Moment | None:
    """Read ISO 8601 or mail-date text, "now", "today" or a Unix time; None for anything else."""
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            return _of_unix(value, zone)
        return _of_text(value.strip(), now=now, zone=zone) if isinstance(value, str) else None
    except (ValueError, OverflowError, OSError, TypeError, IndexError):
        # Text of the right shape can still name no day: 2026-02-30, year 0, +99:99.
        return None


def _of_unix(value: float, zone: tzinfo) -> Moment | None:
    # Milliseconds, as JavaScript writes them, are far outside any year meant in seconds.
    seconds = value / 1000 if abs(value) >= 1e11 else value
    return Moment(datetime.fromtimestamp(seconds, tz=UTC).astimezone(zone))


def _of_text(text: str, *, now: datetime, zone: tzinfo) -> Moment | None:
    if len(text) > TEXT_CAP:
        return None
    if text.lower() in ("now", "today"):
        here = now.astimezone(zone)
        return Moment(here) if text.lower() == "now" else _whole(here.date(), zone)
    if _DAY.fullmatch(text):
        return _whole(date.fromisoformat(text), zone)
    if found := _MOMENT.fullmatch(text):
        at = datetime.fromisoformat(f"{found[1]}T{found[2]}{(found[3] or '').upper()}")
        return Moment(at.astimezone(zone) if at.tzinfo else at.replace(tzinfo=zone))
    if _MAIL.match(text):
        at = parsedate_to_datetime(text)
        return Moment(at.astimezone(zone) if at.tzinfo else at.replace(tzinfo=zone))
    return None


def _whole(day: date, zone: tzinfo) -> Moment:
    return Moment(datetime.combine(day, time.min, zone), whole_day=True)


def span_in(value: object) -> Span | None:
    """Read a duration: ISO 8601 text ("P7D", "PT90M") or {"days": 7}; None for anything else."""
    if isinstance(value, str):
        found = _SPAN.fullmatch(value.strip().upper()) if len(value) <= TEXT_CAP else None
        parts = {unit: found[unit] for unit in _UNITS if found[unit]} if found else {}
        sign = -1 if found and found["sign"] else 1
        return _span({unit: sign * int(number) for unit, number in parts.items()}) if parts else None
    if not isinstance(value, Mapping) or not value or set(value) - set(_UNITS):
        return None
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in value.values()):
        return None
    return _span(dict(value))


def _span(parts: Mapping[str, int]) -> Span | None:
    span = Span(
        months=parts.get("years", 0) * 12 + parts.get("months", 0),
        days=parts.get("weeks", 0) * 7 + parts.get("days", 0),
        seconds=parts.get("hours", 0) * 3600 + parts.get("minutes", 0) * 60 + parts.get("seconds", 0),
    )
    years = abs(span.months) / 12 + abs(span.days) / 365 + abs(span.seconds) / 31_536_000
    return span if years <= YEARS_CAP else None


def weekday_in(value: object) -> int | None:
    """Read a weekday: its English name, three letters of it, or 1 (Monday) to 7; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 1 <= value <= 7 else None
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    if text in ("1", "2", "3", "4", "5", "6", "7"):
        return int(text)
    matches = [number for number, name in enumerate(WEEKDAYS, 1) if text in (name, name[:3], name[:2])]
    return matches[0] if matches else None


def _days_in(year: int, month: int) -> int:
    following = date(year + month // 12, month % 12 + 1, 1)
    return (following - timedelta(days=1)).day
