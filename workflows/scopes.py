"""Picking from the scope only what a node names."""

from collections.abc import Iterable, Mapping
from typing import Any


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
