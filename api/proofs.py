"""Who calls a hook: a secret in a header, or a signature over the body that was made just now."""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import Literal

from starlette.datastructures import Headers

from activities.clients import signatures
from api import errors

TOLERANCE = 300
"""Seconds by which a signature's time may differ from ours, either way."""
STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")
OURS = "x-flowtrack-signature"
MOMENT = re.compile(r"[0-9]{1,12}", re.ASCII)
OUR_SIGNATURE = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})", re.ASCII)
Auth = Literal["none", "token", "hmac"]


@dataclass(frozen=True)
class Proved:
    """A call that may come in; `message_id` is what its signer calls it."""

    message_id: str | None = None


def check(auth: Auth, headers: Headers, body: bytes, *, secrets: Sequence[str]) -> Proved:
    """Let a call in that proves its sender with one of the secrets; raise Unauthorized."""
    if auth == "none":
        return Proved()
    if auth == "token":
        return _by_token(headers, secrets)
    ours = _once(headers, OURS)
    if ours is not None and not _is_ours(ours, body, secrets):
        raise errors.CallerUnproved()
    if any(name in headers for name in STANDARD):
        return _by_standard(headers, body, secrets)
    if ours is None:
        raise errors.CallerUnproved()
    return Proved()


def _by_token(headers: Headers, secrets: Sequence[str]) -> Proved:
    scheme, _, shown = (_once(headers, "authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not _is_one_of(shown.strip(), secrets):
        raise errors.CallerUnproved()
    return Proved()


def _by_standard(headers: Headers, body: bytes, secrets: Sequence[str]) -> Proved:
    message_id, moment, given = (_once(headers, name) or "" for name in STANDARD)
    if not signatures.MESSAGE_ID.fullmatch(message_id) or not _is_recent(moment):
        raise errors.CallerUnproved()
    right = signatures.sign(list(secrets), message_id, int(moment), body).split(" ")
    if not any(_is_one_of(one, right) for one in given.split(" ")[: signatures.MAX_SECRETS]):
        raise errors.CallerUnproved()
    return Proved(message_id)


def _is_ours(given: str, body: bytes, secrets: Sequence[str]) -> bool:
    parts = OUR_SIGNATURE.fullmatch(given)
    if parts is None or not _is_recent(parts[1]):
        return False
    signed = parts[1].encode() + b"." + body
    return _is_one_of(parts[2], [hmac.digest(secret.encode(), signed, "sha256").hex() for secret in secrets])


def _is_recent(moment: str) -> bool:
    return bool(MOMENT.fullmatch(moment)) and abs(int(moment) - time()) <= TOLERANCE


def _is_one_of(given: str, right: Sequence[str]) -> bool:
    return any(hmac.compare_digest(given.encode(), one.encode()) for one in right)


def _once(headers: Headers, name: str) -> str | None:
    values = headers.getlist(name)
    if len(values) > 1:
        raise errors.CallerUnproved()
    return values[0] if values else None
