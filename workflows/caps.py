"""Bounds on what a template may cost: no limit of Liquid's sees a value inside a chain of filters."""

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from liquid import Undefined
from liquid.exceptions import FilterArgumentError, LiquidError, ResourceLimitError, UndefinedError
from liquid.expression import Expression
from markupsafe import Markup

TEXT_CAP = 65_536
"""Characters of any text a filter makes."""
ITEMS_CAP = 10_000
"""Items of any list a filter makes, and of any range."""
WEIGHT_CAP = 524_288
"""Weight of any value a template touches: characters, and 8 for each thing that is no text."""
DEPTH_CAP = 32
WORK_CAP = 1_000_000
"""Units of work in one rendering; a unit is about a microsecond, so this is what ends a hostile template."""
_INT_BITS = 1_024
_SCALARS = frozenset({bool, float, type(None)})
_FilterFunction = Callable[..., Any]


class NotPlain(LiquidError):
    """The template touched a value that is not plain data."""


class MissingValue(UndefinedError):
    """The template printed or filtered a value that is not there."""

    def __init__(self, missing: str, *, token: Any) -> None:
        super().__init__(f"{missing} has no value", token=token)
        self.missing = missing


class Work:
    """Counts what a rendering has cost so far and stops it at the cap."""

    def __init__(self, cap: int = WORK_CAP) -> None:
        self._left = cap

    def spend(self, units: int) -> None:
        """Take units off what is left."""
        self._left -= units
        if self._left < 0:
            raise ResourceLimitError("the template does too much work", token=None)


def weigh(value: Any) -> int:
    """Return a value's weight; refuse what is no plain data, too deep or too heavy."""
    total, stack = 0, [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > DEPTH_CAP:
            raise ResourceLimitError(f"the value nests deeper than {DEPTH_CAP} levels", token=None)
        total += _weigh_one(item)
        if total > WEIGHT_CAP:
            raise ResourceLimitError("the value is too large for a template", token=None)
        if isinstance(item, list | tuple):
            stack.extend((inner, depth + 1) for inner in item)
        elif isinstance(item, dict):
            stack.extend((inner, depth + 1) for pair in item.items() for inner in pair)
    return total


def _weigh_one(value: Any) -> int:
    kind = type(value)
    if kind is str or kind is Markup:
        return 8 + len(value)
    if kind in _SCALARS:
        return 8
    if kind is int:
        if value.bit_length() > _INT_BITS:
            raise ResourceLimitError("the number is too large", token=None)
        return 8
    if kind in (list, tuple, dict):
        if len(value) > WEIGHT_CAP // 8:
            raise ResourceLimitError("the value is too large for a template", token=None)
        return 8
    return _weigh_other(value)


def _weigh_other(value: Any) -> int:
    if isinstance(value, range):
        if value.stop - value.start > ITEMS_CAP:
            raise ResourceLimitError(f"the range has more than {ITEMS_CAP} items", token=None)
        return 8 * len(value)
    if isinstance(value, Undefined | Expression):
        return 8
    raise NotPlain(f"a {type(value).__name__} is not plain data", token=None)


def stringify(value: Any) -> str:
    """Write a value as output does: text as it is, lists end to end, objects as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "".join(map(stringify, value))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, range):
        return f"{value.start}..{value.stop - 1}"
    return "" if value is None or isinstance(value, Expression) else str(value)


def capped(name: str, function: _FilterFunction, *, takes_missing: bool = False) -> _FilterFunction:
    """Guard a filter: refuse by prediction where it multiplies, by result everywhere, and count its work."""
    wants_context = getattr(function, "with_context", False)
    wants_environment = getattr(function, "with_environment", False)
    predict = _PREDICTIONS.get(name)

    @wraps(function)
    def guarded(left: Any, *args: Any, context: Any, **kwargs: Any) -> Any:
        values = (left, *args, *kwargs.values())
        if not takes_missing:
            _refuse_missing(values)
        context.work.spend(20 + sum(map(_work, values)))
        if predict:
            predict(left, *args)
        extras = {"context": context} if wants_context else {}
        if wants_environment:
            extras["environment"] = context.env
        return _bounded(function(left, *args, **kwargs, **extras))

    guarded.with_context = True  # type: ignore[attr-defined]  # how Liquid asks for the context
    guarded.with_environment = False  # type: ignore[attr-defined]  # @wraps copied it
    return guarded


def _work(value: Any) -> int:
    # Text is handled in C, items one by one in Python.
    return weigh(value) >> (5 if isinstance(value, str) else 1)


def _refuse_missing(values: tuple[Any, ...]) -> None:
    for value in values:
        if isinstance(value, Undefined):
            str(value)  # raises, and names the value


def _bounded(result: Any) -> Any:
    if isinstance(result, str):
        _refuse_over(len(result), TEXT_CAP, "characters of text")
    elif isinstance(result, list | tuple):
        _refuse_over(len(result), ITEMS_CAP, "items")
        weigh(result)
    else:
        weigh(result)
    return result


def _refuse_over(size: int, cap: int, what: str) -> None:
    if size > cap:
        raise ResourceLimitError(f"a filter may make at most {cap} {what}", token=None)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(stringify(value))


def _predict_replace(left: Any, old: Any = "", new: Any = "", *_: Any) -> None:
    text, part = stringify(left), stringify(old)
    count = text.count(part) if part else len(text) + 1
    # Under autoescape the replacement may be escaped on its way in: five characters for one.
    growth = 5 * _length(new) if isinstance(left, Markup) else _length(new)
    _refuse_over(len(text) + count * (growth - len(part)), TEXT_CAP, "characters of text")


def _predict_join(left: Any, separator: Any = " ", *_: Any) -> None:
    if isinstance(left, list | tuple | range):
        size = sum(map(_length, left)) + max(len(left) - 1, 0) * _length(separator)
        _refuse_over(size, TEXT_CAP, "characters of text")


def _predict_split(left: Any, separator: Any = "", *_: Any) -> None:
    text, part = stringify(left), stringify(separator)
    _refuse_over(text.count(part) if part else len(text), ITEMS_CAP, "items")


def _predict_number(left: Any, *args: Any) -> None:
    for value in (left, *args):
        # Text of thousands of digits becomes a number that no later step can print.
        if isinstance(value, str) and len(value) > 400:
            raise FilterArgumentError("the text is too long for a number", token=None)


_ARITHMETIC = [
    "abs",
    "at_least",
    "at_most",
    "ceil",
    "divided_by",
    "floor",
    "minus",
    "modulo",
    "plus",
    "round",
    "times",
]
_PREDICTIONS: Mapping[str, Callable[..., None]] = {
    "replace": _predict_replace,
    "join": _predict_join,
    "split": _predict_split,
    **dict.fromkeys(
        (
            "abs",
            "at_least",
            "at_most",
            "ceil",
            "divided_by",
            "floor",
            "minus",
            "modulo",
            "plus",
            "round",
            "times",
        ),
        _predict_number,
    ),
}
