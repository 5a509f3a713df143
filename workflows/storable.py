"""What PostgreSQL's JSON and UTF-8 can hold: everything a client sends is asked before it is kept."""

import math
from collections.abc import Iterator

DEPTH_CAP = 64

Path = tuple[str | int, ...]


def complaints(document: object) -> Iterator[tuple[Path, str]]:
    """Find NUL, half characters, endless numbers and bottomless nesting, without recursion."""
    waiting: list[tuple[object, Path]] = [(document, ())]
    while waiting:
        value, path = waiting.pop()
        if isinstance(value, str) and not is_plain(value):
            yield path, _complaint(value)
        elif isinstance(value, float) and not math.isfinite(value):
            yield path, "is not a finite number"
        elif isinstance(value, dict | list) and value and len(path) >= DEPTH_CAP:
            yield path, f"is nested more than {DEPTH_CAP} deep"
        elif isinstance(value, dict):
            yield from ((path, f"has a key that {_complaint(key)}") for key in value if not is_plain(key))
            # A path through a bad key could itself not be told.
            waiting += [(inner, (*path, key)) for key, inner in value.items() if is_plain(key)]
        elif isinstance(value, list):
            waiting += [(inner, (*path, number)) for number, inner in enumerate(value)]


def is_plain(text: str) -> bool:
    """Tell whether a text can be kept."""
    if "\0" in text:
        return False
    try:
        # Half of a surrogate pair parses as JSON and cannot be written as UTF-8.
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _complaint(text: str) -> str:
    return "contains a NUL character" if "\0" in text else "contains half a character"
