"""Dotted paths into JSON: `data.items.0.email`."""

from collections.abc import Mapping
from typing import Any

PATTERN = r"^[^\s.]{1,100}(\.[^\s.]{1,100}){0,15}$"
"""How a config writes a path."""


def follow(value: Any, path: str) -> Any:
    """Return what a path leads to; None where there is nothing."""
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and len(part) < 7:
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value
