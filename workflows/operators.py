"""The closed set of operators a condition may use (nodes.md, Conditions)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any, Literal

from workflows import amounts, moments, operands, patterns
from workflows.shapes import Kind

Family = Literal["any", "text", "number", "boolean", "date", "list", "lead"]
Answer = tuple[bool, str | None]
"""Whether it holds, and a note where the data explains the answer better than the values do."""
_SCALARS: frozenset[Kind] = frozenset({"text", "number", "boolean", "date"})
_FITS: Mapping[Family, frozenset[Kind]] = {
    "any": _SCALARS | {"list", "object"},
    "text": _SCALARS,
    "number": frozenset({"text", "number"}),
    "boolean": frozenset({"text", "number", "boolean"}),
    "date": frozenset({"text", "date"}),
    "list": _SCALARS | {"list"},
    "lead": _SCALARS | {"list"},
}
_SIZED: frozenset[Kind] = frozenset({"list", "object"})


@dataclass(frozen=True)
class Asked:
    """One question put to an operator: both sides and the circumstances."""

    left: Any
    right: Any
    case_sensitive: bool
    now: datetime
    zone: tzinfo

    def fold(self, text: str) -> str:
        """Bring text to the form in which this question compares it."""
        return text if self.case_sensitive else text.casefold()


@dataclass(frozen=True)
class Operator:
    """A name, what it wants on its right side, and its decision."""

    name: str
    aliases: tuple[str, ...]
    family: Family
    value: operands.Value
    decide: Callable[[Asked], Answer]
    takes_missing: bool = False
    """Whether a missing left side is a question for it, and not simply false."""
    default_field: str | None = None
    """The field it reads where the rule names none."""
    fits: frozenset[Kind] = _FITS["any"]
    """Kinds that may stand on its left; of all others it is false, or not what was meant."""


_OPERATORS: dict[str, Operator] = {}
_NAMES: dict[str, Operator] = {}


def named(name: object) -> Operator | None:
    """Find an operator by its name or alias."""
    return _NAMES.get(name) if isinstance(name, str) else None


def every() -> Mapping[str, Operator]:
    """Return all operators by name, for docs and the editor."""
    return dict(_OPERATORS)


def names() -> Iterator[str]:
    """Yield every accepted name, aliases included."""
    yield from _NAMES


def _operator(
    name: str,
    *aliases: str,
    family: Family,
    value: operands.Value,
    takes_missing: bool = False,
    default_field: str | None = None,
    fits: frozenset[Kind] | None = None,
) -> Callable[[Callable[[Asked], Answer]], Callable[[Asked], Answer]]:
    def register(decide: Callable[[Asked], Answer]) -> Callable[[Asked], Answer]:
        made = Operator(
            name, aliases, family, value, decide, takes_missing, default_field, fits or _FITS[family]
        )
        _OPERATORS[name] = made
        _NAMES.update(dict.fromkeys((name, *aliases), made))
        return decide

    return register


# any


@_operator("equals", "==", "eq", family="any", value=operands.ANYTHING)
def _equals(asked: Asked) -> Answer:
    return _same(asked, asked.left, asked.right), None


@_operator("not_equals", "ne", family="any", value=operands.ANYTHING)
def _not_equals(asked: Asked) -> Answer:
    return not _same(asked, asked.left, asked.right), None


@_operator("is_empty", family="any", value=operands.NOTHING, takes_missing=True)
def _is_empty(asked: Asked) -> Answer:
    return _empty(asked.left), None


@_operator("is_not_empty", family="any", value=operands.NOTHING)
def _is_not_empty(asked: Asked) -> Answer:
    return not _empty(asked.left), None


@_operator("exists", family="any", value=operands.NOTHING)
def _exists(asked: Asked) -> Answer:
    return asked.left is not None, None


@_operator("not_exists", family="any", value=operands.NOTHING, takes_missing=True)
def _not_exists(asked: Asked) -> Answer:
    return asked.left is None, None


@_operator("in", family="any", value=operands.LIST)
def _in(asked: Asked) -> Answer:
    return any(_same(asked, asked.left, item) for item in asked.right), None


@_operator("not_in", family="any", value=operands.LIST)
def _not_in(asked: Asked) -> Answer:
    return not any(_same(asked, asked.left, item) for item in asked.right), None


def _empty(left: Any) -> bool:
    if isinstance(left, str):
        return not left.strip()
    return left is None or (isinstance(left, list | tuple | Mapping) and not left)


def _same(asked: Asked, left: Any, right: Any) -> bool:
    """Compare as the right side's type asks: yes or no, a number, text, or plain data."""
    if isinstance(right, bool) or isinstance(left, bool):
        return operands.yes_or_no(left) is not None and operands.yes_or_no(left) == operands.yes_or_no(right)
    left_text, right_text = isinstance(left, str), isinstance(right, str)
    if left_text and right_text and asked.fold(left.strip()) == asked.fold(right.strip()):
        return True
    if (left_text or operands.is_number(left)) and (right_text or operands.is_number(right)):
        number = amounts.amount(right)
        return number is not None and amounts.amount(left) == number
    return not left_text and not right_text and _alike(left, right)


def _alike(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except (RecursionError, TypeError, ValueError):
        return False


# text


@_operator("contains", family="text", value=operands.SCALAR, fits=_SCALARS | {"list"})
def _contains(asked: Asked) -> Answer:
    return _holds_item(asked, asked.right)


@_operator("not_contains", family="text", value=operands.SCALAR, fits=_SCALARS | {"list"})
def _not_contains(asked: Asked) -> Answer:
    holds, note = _holds_item(asked, asked.right)
    return (False, note) if note else (not holds, None)


@_operator("starts_with", family="text", value=operands.SCALAR)
def _starts_with(asked: Asked) -> Answer:
    return _on_text(asked, lambda left, right: left.startswith(right))


@_operator("ends_with", family="text", value=operands.SCALAR)
def _ends_with(asked: Asked) -> Answer:
    return _on_text(asked, lambda left, right: left.endswith(right))


@_operator("matches_regex", family="text", value=operands.PATTERN)
def _matches_regex(asked: Asked) -> Answer:
    left = operands.text(asked.left)
    if left is None:
        return False, "not a text"
    return patterns.finds(asked.right, left, case_sensitive=asked.case_sensitive), None


@_operator("email_domain_in", family="text", value=operands.NAMES)
def _email_domain_in(asked: Asked) -> Answer:
    left = operands.text(asked.left) or ""
    local, at, domain = left.strip().rpartition("@")
    if not (local and at and domain):
        return False, "no e-mail address"
    wanted = {name.strip().removeprefix("@").casefold() for name in operands.listed(asked.right)}
    return domain.casefold() in wanted, None


def _on_text(asked: Asked, decide: Callable[[str, str], bool]) -> Answer:
    left, right = operands.text(asked.left), operands.text(asked.right)
    if left is None or right is None:
        return False, "not a text"
    return decide(asked.fold(left), asked.fold(right)), None


# number


@_operator("=", family="number", value=operands.SCALAR, fits=_SCALARS)
def _number_equals(asked: Asked) -> Answer:
    # A status or a name is no number: there "=" can only mean `equals`.
    if amounts.amount(asked.right) is None:
        return _equals(asked)
    return _compare(asked, lambda left, right: left == right)


@_operator("!=", family="number", value=operands.SCALAR, fits=_SCALARS)
def _number_differs(asked: Asked) -> Answer:
    if amounts.amount(asked.right) is None:
        return _not_equals(asked)
    return _compare(asked, lambda left, right: left != right)


@_operator(">", "gt", family="number", value=operands.NUMBER)
def _more(asked: Asked) -> Answer:
    return _compare(asked, lambda left, right: left > right)


@_operator(">=", "gte", family="number", value=operands.NUMBER)
def _at_least(asked: Asked) -> Answer:
    return _compare(asked, lambda left, right: left >= right)


@_operator("<", "lt", family="number", value=operands.NUMBER)
def _less(asked: Asked) -> Answer:
    return _compare(asked, lambda left, right: left < right)


@_operator("<=", "lte", family="number", value=operands.NUMBER)
def _at_most(asked: Asked) -> Answer:
    return _compare(asked, lambda left, right: left <= right)


@_operator("between", family="number", value=operands.RANGE)
def _between(asked: Asked) -> Answer:
    bounds, number = operands.bounds(asked.right), amounts.number_in(asked.left)
    if bounds is None or number is None:
        return False, _no_number(asked.left)
    return bounds[0] <= number <= bounds[1], None


def _compare(asked: Asked, decide: Callable[[Decimal, Decimal], bool]) -> Answer:
    left, right = amounts.number_in(asked.left), amounts.number_in(asked.right)
    if left is None or right is None:
        return False, _no_number(asked.left if left is None else asked.right)
    return decide(left, right), None


def _no_number(value: Any) -> str:
    return (
        f"no number in {value[:60]!r}" if isinstance(value, str) else f"no number in a {operands.kind(value)}"
    )


# boolean


@_operator("is_true", family="boolean", value=operands.NOTHING)
def _is_true(asked: Asked) -> Answer:
    answer = operands.yes_or_no(asked.left)
    return answer is True, "not a yes/no value" if answer is None else None


@_operator("is_false", family="boolean", value=operands.NOTHING)
def _is_false(asked: Asked) -> Answer:
    answer = operands.yes_or_no(asked.left)
    return answer is False, "not a yes/no value" if answer is None else None


# date


@_operator("before", family="date", value=operands.MOMENT)
def _before(asked: Asked) -> Answer:
    return _on_moments(asked, lambda left, right: left < right)


@_operator("after", family="date", value=operands.MOMENT)
def _after(asked: Asked) -> Answer:
    return _on_moments(asked, lambda left, right: left > right)


@_operator("on", family="date", value=operands.MOMENT)
def _on(asked: Asked) -> Answer:
    left, right = _moment(asked, asked.left), _moment(asked, asked.right)
    if left is None or right is None:
        return False, "no date"
    return left.day == right.day, None


@_operator("within_last", family="date", value=operands.SPAN)
def _within_last(asked: Asked) -> Answer:
    return _within(asked, forward=False)


@_operator("within_next", family="date", value=operands.SPAN)
def _within_next(asked: Asked) -> Answer:
    return _within(asked, forward=True)


@_operator("weekday_in", family="date", value=operands.WEEKDAYS)
def _weekday_in(asked: Asked) -> Answer:
    left = _moment(asked, asked.left)
    if left is None:
        return False, "no date"
    return left.day.isoweekday() in {moments.weekday_in(item) for item in operands.listed(asked.right)}, None


def _on_moments(asked: Asked, decide: Callable[[Any, Any], bool]) -> Answer:
    """Compare moments; days where either side names only a day, so that no midnight surprises."""
    left, right = _moment(asked, asked.left), _moment(asked, asked.right)
    if left is None or right is None:
        return False, "no date"
    if left.whole_day or right.whole_day:
        return decide(left.day, right.day), None
    return decide(left.at, right.at), None


def _within(asked: Asked, *, forward: bool) -> Answer:
    left, span = _moment(asked, asked.left), operands.span(asked.right)
    if left is None or span is None:
        return False, "no date"
    now = asked.now.astimezone(asked.zone)
    try:
        first, last = (now, span.after(now)) if forward else (span.before(now), now)
    except (OverflowError, ValueError):
        return False, "the duration leaves the calendar"
    if left.whole_day:
        return first.date() <= left.day <= last.date(), None
    return first <= left.at <= last, None


def _moment(asked: Asked, value: Any) -> moments.Moment | None:
    return moments.moment_in(value, now=asked.now, zone=asked.zone)


# list


@_operator("contains_any", family="list", value=operands.LIST)
def _contains_any(asked: Asked) -> Answer:
    answers = [_holds_item(asked, item) for item in asked.right]
    return any(holds for holds, _ in answers), answers[0][1]


@_operator("contains_all", family="list", value=operands.LIST)
def _contains_all(asked: Asked) -> Answer:
    answers = [_holds_item(asked, item) for item in asked.right]
    return all(holds for holds, _ in answers), answers[0][1]


@_operator("size_eq", family="list", value=operands.SIZE, fits=_SIZED)
def _size_eq(asked: Asked) -> Answer:
    return _on_size(asked, lambda left, right: left == right)


@_operator("size_gt", family="list", value=operands.SIZE, fits=_SIZED)
def _size_gt(asked: Asked) -> Answer:
    return _on_size(asked, lambda left, right: left > right)


@_operator("size_lt", family="list", value=operands.SIZE, fits=_SIZED)
def _size_lt(asked: Asked) -> Answer:
    return _on_size(asked, lambda left, right: left < right)


def _holds_item(asked: Asked, item: Any) -> Answer:
    """Look for an item in a list, or for a part in a text."""
    if isinstance(asked.left, list | tuple):
        return any(_same(asked, held, item) for held in asked.left[: operands.HELD_CAP]), None
    left, part = operands.text(asked.left), operands.text(item)
    if left is None or part is None:
        return False, "neither a text nor a list"
    return asked.fold(part) in asked.fold(left), None


def _on_size(asked: Asked, decide: Callable[[int, int], bool]) -> Answer:
    if not isinstance(asked.left, list | tuple | Mapping):
        return False, "not a list"
    return decide(len(asked.left), asked.right), None


# lead


@_operator("status_in", family="lead", value=operands.NAMES, default_field="lead.status")
def _status_in(asked: Asked) -> Answer:
    return any(_same(asked, asked.left, item) for item in operands.listed(asked.right)), None


@_operator(
    "has_event", family="lead", value=operands.NAMES, default_field="lead.events", fits=frozenset({"list"})
)
def _has_event(asked: Asked) -> Answer:
    if not isinstance(asked.left, list | tuple):
        return False, "no events"
    kinds = {asked.fold(kind) for kind in map(_event_type, asked.left) if kind}
    return any(asked.fold(name.strip()) in kinds for name in operands.listed(asked.right)), None


def _event_type(event: Any) -> str | None:
    kind = (event.get("event_type") or event.get("type")) if isinstance(event, Mapping) else event
    return kind if isinstance(kind, str) else None
