"""Strong ETags over a version number, and the conditions that clients put on them."""

import re

from api import errors

TAG = re.compile(r'(?:W/)?"([^"]*)"')


def of(version: int) -> str:
    """Write a version as an ETag."""
    return f'"{version}"'


def required(if_match: str | None) -> int | None:
    """Read If-Match: the one version the client changed, or None for `*`; a weak tag never matches."""
    if if_match is None or not if_match.strip():
        raise errors.VersionRequired()
    if if_match.strip() == "*":
        return None
    strong = [tag for tag in if_match.split(",") if not tag.strip().startswith("W/")]
    texts = [_text(tag) for tag in strong]
    versions = [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 10]
    if len(versions) != 1:
        raise errors.StaleVersion()
    return versions[0]


def is_known(if_none_match: str | None, version: int) -> bool:
    """Tell whether the client already has this version."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or any(text == str(version) for text in TAG.findall(if_none_match))


def _text(tag: str) -> str:
    match = TAG.fullmatch(tag.strip())
    return match[1] if match else ""
