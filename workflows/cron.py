"""Cron as people write it: five fields, checked before anybody waits for a time that never comes."""

import re
from dataclasses import dataclass

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
LONGEST_MONTHS = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
PART = re.compile(r"(\*|[0-9A-Z]{1,3}(?:-[0-9A-Z]{1,3})?)(?:/([0-9]{1,2}))?", re.ASCII)
LENGTH_CAP = 200


@dataclass(frozen=True)
class _Kind:
    """One of the five fields."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


FIELDS = (
    _Kind("minute", 0, 59),
    _Kind("hour", 0, 23),
    _Kind("day of the month", 1, 31),
    _Kind("month", 1, 12, MONTHS),
    # Sunday is 0 and 7.
    _Kind("weekday", 0, 7, WEEKDAYS),
)


def check(text: str) -> str:
    """Return a cron line in its plain form; ValueError says what is wrong with it."""
    parts = text.upper().split()
    if len(parts) != len(FIELDS) or len(text) > LENGTH_CAP:
        names = ", ".join(kind.name for kind in FIELDS)
        raise ValueError(f"a cron line has five fields ({names}), such as `0 9 * * MON-FRI`")
    sets = [_values(kind, part) for kind, part in zip(FIELDS, parts, strict=True)]
    _, _, days, months, _ = sets
    if min(days) > max(LONGEST_MONTHS.get(month, 31) for month in months):
        raise ValueError("no month that it names has such a day")
    return " ".join(parts)


def _values(kind: _Kind, text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        matched = PART.fullmatch(part)
        if matched is None:
            raise ValueError(f"`{part[:20]}` is no {kind.name}")
        found |= _range(kind, matched[1], int(matched[2]) if matched[2] else None)
    return found


def _range(kind: _Kind, text: str, step: int | None) -> set[int]:
    if step == 0:
        raise ValueError(f"the {kind.name} cannot go on by 0")
    if text == "*":
        return set(range(kind.low, kind.high + 1, step or 1))
    first, dash, second = text.partition("-")
    low = _number(kind, first)
    high = _number(kind, second) if dash else (kind.high if step else low)
    if high < low:
        raise ValueError(f"the {kind.name} `{text}` runs backwards")
    return set(range(low, high + 1, step or 1))


def _number(kind: _Kind, text: str) -> int:
    if text in kind.words:
        return kind.words.index(text) + kind.low
    if not text.isdigit() or not kind.low <= int(text) <= kind.high:
        raise ValueError(f"`{text}` is no {kind.name}; it goes from {kind.low} to {kind.high}")
    return int(text)
