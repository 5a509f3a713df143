"""The two sides of a condition: how data is read, and what a rule may write on the right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from workflows import amounts, moments, patterns

LIST_CAP = 200
"""Items a rule may list."""
HELD_CAP = 2_000
"""Items of the data that are looked through; together with LIST_CAP this bounds the work."""
_YES = frozenset({"true", "yes", "on", "1"})
_NO = frozenset({"false", "no", "off", "0"})
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def text(value: Any) -> str | None:
    """Return a text, or a number or yes/no written as one; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    # An int beyond 4,300 digits cannot be written as text at all.
    if isinstance(value, float) or (isinstance(value, int) and value.bit_length() < 1024):
        return str(value)
    return None


def yes_or_no(value: Any) -> bool | None:
    """Read a yes/no value, also as forms send it; None for anything else."""
    if isinstance(value, bool):
        return value
    written = text(value)
    folded = written.strip().casefold() if written is not None and len(written) < 10 else ""
    if folded in _YES:
        return True
    return False if folded in _NO else None


def is_number(value: Any) -> bool:
    """Tell whether the value is a number, which yes and no are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind(value: Any) -> str:
    """Name a value's kind in the words of a rule's author."""
    if isinstance(value, bool):
        return "yes/no value"
    return {"list": "list", "tuple": "list", "dict": "object"}.get(type(value).__name__, "value")


def described(value: Any) -> str:
    """Describe what stands on the right in a few words, for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return repr(value[:40])
    if is_number(value):
        return (text(value) or "a very large number")[:40]
    return f"a {kind(value)}"


def bounds(value: Any) -> tuple[Decimal, Decimal] | None:
    """Read [low, high] or {"min", "max"}; None for anything else."""
    if isinstance(value, Mapping) and set(value) == {"min", "max"}:
        value = [value["min"], value["max"]]
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = amounts.number_in(value[0]), amounts.number_in(value[1])
    return (low, high) if low is not None and high is not None and low <= high else None


def span(value: Any) -> moments.Span | None:
    """Read a duration that does not run backwards; None for anything else."""
    length = moments.span_in(value)
    return length if length and min(length.months, length.days, length.seconds) >= 0 else None


def listed(value: Any) -> Sequence[Any]:
    """Return a list as it is and anything else as a list of one."""
    return value if isinstance(value, list | tuple) else [value]


@dataclass(frozen=True)
class Value:
    """What an operator's right side must be, and how to say so."""

    accepts: Callable[[Any], bool]
    wanted: str


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and 0 < len(value) <= LIST_CAP and all(map(_is_scalar, value))


def _is_pattern(value: Any) -> bool:
    return isinstance(value, str) and patterns.complaint(value) is None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_moment(value: Any) -> bool:
    return isinstance(value, str) and moments.moment_in(value, now=_ANY_TIME, zone=UTC) is not None


def _is_weekdays(value: Any) -> bool:
    return bool(listed(value)) and all(moments.weekday_in(item) is not None for item in listed(value))


def _is_names(value: Any) -> bool:
    items = listed(value)
    return 0 < len(items) <= LIST_CAP and all(isinstance(item, str) and item.strip() for item in items)


ANYTHING = Value(lambda value: value is not None, "a value to compare with")
NOTHING = Value(lambda value: True, "no value")
SCALAR = Value(_is_scalar, "a text or a number")
LIST = Value(_is_list, f"a list of 1 to {LIST_CAP} texts or numbers")
PATTERN = Value(_is_pattern, "a regular expression without look-around and back-references")
NUMBER = Value(lambda value: amounts.number_in(value) is not None, "a number")
RANGE = Value(lambda value: bounds(value) is not None, "two numbers, [low, high], the lower one first")
MOMENT = Value(_is_moment, 'a date ("2026-03-31"), a moment ("2026-03-31T09:00:00Z"), "now" or "today"')
SPAN = Value(lambda value: span(value) is not None, 'a duration such as "P7D" or {"days": 7}')
WEEKDAYS = Value(_is_weekdays, 'weekdays such as ["mon", "tue"], or 1 (Monday) to 7')
SIZE = Value(_is_size, "a whole number, 0 or more")
NAMES = Value(_is_names, f"a text or a list of 1 to {LIST_CAP} texts")
