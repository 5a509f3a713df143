"""Tenants' regular expressions on a linear-time engine."""

from functools import lru_cache
from typing import Any

import re2

PATTERN_CAP = 1_000
TEXT_CAP = 65_536


class PatternError(ValueError):
    """The pattern cannot be used; the message says why."""


@lru_cache(maxsize=256)
def compiled(pattern: str, *, case_sensitive: bool = True) -> Any:
    """Compile a pattern, or say in a PatternError what is wrong with it."""
    if len(pattern) > PATTERN_CAP:
        raise PatternError(f"it is longer than {PATTERN_CAP} characters")
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = case_sensitive
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except (re2.error, ValueError) as error:
        reason = error.args[0] if error.args else error
        raise PatternError(
            reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        ) from None


def complaint(pattern: str) -> str | None:
    """Return what is wrong with a pattern, or None if it can be used."""
    try:
        compiled(pattern)
    except PatternError as error:
        return str(error)
    return None


def finds(pattern: str, text: str, *, case_sensitive: bool = True) -> bool:
    """Tell whether the pattern occurs anywhere in the text."""
    return compiled(pattern, case_sensitive=case_sensitive).search(_encodable(text)) is not None


def fits(pattern: str, text: str) -> bool:
    """Tell whether the pattern matches the whole text, as an HTML form's pattern does."""
    return compiled(pattern).fullmatch(_encodable(text)) is not None


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON can carry and the engine's UTF-8 cannot."""
    return text[:TEXT_CAP].encode("utf-8", "replace").decode("utf-8")
