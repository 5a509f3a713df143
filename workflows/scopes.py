"""Picking from the scope only what a node names."""

from collections.abc import Iterable, Mapping
from typing import Any

DEPTH_CAP = 32
"""Levels that a value may nest where the run itself handles it; templates read no deeper either."""


def pick(scope: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Copy the named dotted paths; one that leads nowhere is left out, so that it reads as missing."""
    picked: dict[str, Any] = {}
    for path in sorted(paths, key=len, reverse=True):
        _copy(scope, picked, path.split("."))
    return picked


def _copy(source: Any, target: dict[str, Any], parts: list[str]) -> None:
    head, rest = parts[0], parts[1:]
    if not isinstance(source, Mapping) or head not in source:
        return
    value = source[head]
    if not rest or not isinstance(value, Mapping):
        target[head] = value
        return
    inner = target.get(head)
    branch = dict(inner) if isinstance(inner, Mapping) else {}
    _copy(value, branch, rest)
    target[head] = branch


def names_lead(paths: Iterable[str]) -> bool:
    """Tell whether any path needs the lead."""
    return any(path == "lead" or path.startswith("lead.") for path in paths)


def is_light(value: Any, *, cap: int) -> bool:
    """Tell whether a value weighs at most so much, nor nests deeply."""
    return weight(value, cap=cap) <= cap


def weight(value: Any, *, cap: int) -> int:
    """Count a value's characters, and 8 for each thing; what nests deeply is over any cap, as is what is."""
    waiting, total = [(value, 0)], 0
    while waiting:
        item, depth = waiting.pop()
        total += 8 + len(item) if isinstance(item, str) else 8
        if total > cap or depth > DEPTH_CAP:
            return cap + 1
        if isinstance(item, Mapping):
            total += sum(map(len, item))
            waiting += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list | tuple):
            waiting += [(inner, depth + 1) for inner in item]
    return total
