"""What a node gave back, made fit for history: checked, cleaned and weighed before Temporal sees it.

Whatever the run cannot read again would have its workflow task tried for ever: it fails the step here.
"""

import json
from math import isfinite
from typing import Any

from pydantic import ValidationError

from activities import links
from activities.errors import StepFailed
from activities.step import Step
from workflows.messages import Outcome
from workflows.nodetype import NodeType
from workflows.storable import DEPTH_CAP, is_plain

LARGEST = {"input": 128 * 1024, "output": 256 * 1024}
"""Bytes; an outcome holds the input too."""
FURTHEST_YEAR = 9000
"""Nothing sleeps longer; beyond it, times can no longer be shifted from zone to zone."""
LONGEST_MESSAGE, LONGEST_TYPE = 2_000, 100
"""Characters of a failure: what is longer than Temporal's own limits would be lost with its step."""
_INT_BITS = 1024
"""More than any other reader of JSON takes a number for."""
_FREE = ("output", "input", "vars", "lead", "items")
"""The fields of an outcome whose content is a node's own."""
_OURS = {"then", "ago", "size"}
"""Those that no node fills."""


class _NotJSON(Exception):
    """A value is no JSON that history and PostgreSQL can hold."""


def sealed(outcome: Any, step: Step, node_type: type[NodeType], lead: dict[str, Any] | None) -> Outcome:
    """Return an outcome as history holds it, with what every step records; raise StepFailed if it cannot."""
    if not isinstance(outcome, Outcome):
        raise StepFailed("bad_outcome", f"The node returned a {type(outcome).__name__}, not an Outcome.")
    # Read from the object itself: what was built without validation may lack or hold anything.
    found = {name: vars(outcome).get(name) for name in outcome.model_fields_set - _OURS}
    for name, recorded in (("input", step.shown), ("lead", lead)):
        if found.get(name) is None:
            found[name] = recorded
    found |= {name: _plain(found[name]) for name in _FREE if name in found}
    found["conditions"] = step.conditions(found.get("output"))
    # Whoever holds a link may use it: none is written where others read.
    found |= {name: links.hidden(found[name], step.links) for name in ("input", "output") if name in found}
    read = _validated(found)
    ways = node_type.ways_out(step.config)
    if unknown := [handle for handle in read.handles if handle not in ways and ways]:
        raise StepFailed("bad_outcome", f"The node left by {unknown[0][:100]!r}, which it does not have.")
    return read.model_copy(update={"size": measured("output", read.model_dump(mode="json"))})


def measured(what: str, data: Any) -> int:
    """Return the bytes of JSON; refuse what is none, or too large for history."""
    try:
        size = len(json.dumps(data, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise StepFailed(f"{what}_not_json", f"The {what} is no JSON: {str(error)[:200]}") from None
    if size > LARGEST[what]:
        raise StepFailed(f"{what}_too_large", f"The {what} has {size} bytes; the limit is {LARGEST[what]}.")
    return size


def unreadable(error: ValidationError) -> StepFailed:
    """Say what is wrong with an outcome that pydantic refused; values stay out of it."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"][:3])
    type_ = "output_not_json" if first["loc"][:1] and first["loc"][0] in _FREE else "bad_outcome"
    return StepFailed(type_, f"The node's outcome cannot be read: {where}: {first['msg']}"[:500])


def told(error: StepFailed) -> tuple[str, str]:
    """Give a failure's type and message as history and PostgreSQL can hold them."""
    return _mended(str(error.type)[:LONGEST_TYPE]), _mended(str(error.message)[:LONGEST_MESSAGE])


def _validated(found: dict[str, Any]) -> Outcome:
    try:
        read = Outcome.model_validate(found)
    except ValidationError as error:
        raise unreadable(error) from None
    if read.wake_at is not None and (read.wake_at.tzinfo is None or read.wake_at.year > FURTHEST_YEAR):
        raise StepFailed("bad_outcome", f"wake_at: {read.wake_at.isoformat()} is no time a run can wait for.")
    return read


def _plain(value: Any) -> Any:
    """Copy JSON; text that PostgreSQL cannot hold is mended, all else that is no plain JSON is refused."""
    try:
        return _copied(value, 0, [LARGEST["output"]])
    except _NotJSON as error:
        raise StepFailed("output_not_json", f"The output is no JSON: {error}") from None
    except OverflowError:
        message = f"The output has more than {LARGEST['output']} bytes."
        raise StepFailed("output_too_large", message) from None


def _copied(value: Any, depth: int, left: list[int]) -> Any:
    _spend(left, 1)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _spend(left, len(value))
        return _mended(value)
    if isinstance(value, int | float):
        return _number(value)
    if not isinstance(value, dict | list | tuple):
        raise _NotJSON(f"it holds a {type(value).__name__}")
    if depth >= DEPTH_CAP:
        raise _NotJSON(f"it nests more than {DEPTH_CAP} deep")
    if isinstance(value, dict):
        return {_key(name, left): _copied(inner, depth + 1, left) for name, inner in dict.items(value)}
    return [_copied(inner, depth + 1, left) for inner in value]


def _spend(left: list[int], units: int) -> None:
    # What refers to itself, or twice to the same large thing, ends here.
    left[0] -= units
    if left[0] < 0:
        raise OverflowError


def _key(name: Any, left: list[int]) -> str:
    if not isinstance(name, str):
        raise _NotJSON(f"it has a key that is a {type(name).__name__}")
    _spend(left, len(name))
    return _mended(name)


def _mended(text: str) -> str:
    """Put U+FFFD for NUL and half characters, as a reader of bad bytes does."""
    exact = str.__str__(text)
    return exact if is_plain(exact) else exact.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _number(value: float) -> float:
    if isinstance(value, float) and not isfinite(value):
        raise _NotJSON(f"{float(value)} is no finite number")
    if isinstance(value, int) and value.bit_length() > _INT_BITS:
        raise _NotJSON(f"a number has more than {_INT_BITS} bits")
    return value
