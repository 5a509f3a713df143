"""Logins of browsers that may read payloads: a signed cookie, good as long as the API key that it names."""

import base64
import binascii
import struct
import time
from dataclasses import dataclass
from hmac import compare_digest, digest
from uuid import UUID

COOKIE = "flowtrack_codec"
LIFETIME = 12 * 3600
PURPOSE = "codec login"
"""What the key that signs is derived for."""
SIGNATURE = 32
FORM = struct.Struct(">16s16sQ")


@dataclass(frozen=True)
class Login:
    """Who logged in, in which workspace, and until when."""

    workspace_id: UUID
    api_key_id: UUID
    expires_at: int


def issue(key: bytes, workspace_id: UUID, api_key_id: UUID, *, now: float | None = None) -> str:
    """Write a login as the cookie's value."""
    until = int(time.time() if now is None else now) + LIFETIME
    body = FORM.pack(workspace_id.bytes, api_key_id.bytes, until)
    return base64.urlsafe_b64encode(body + _sign(key, body)).decode()


def read(key: bytes, value: str, *, now: float | None = None) -> Login | None:
    """Read a cookie's value; None for one that is forged or has expired."""
    try:
        raw = base64.b64decode(value.encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    body, signature = raw[: FORM.size], raw[FORM.size :]
    if not compare_digest(signature, _sign(key, body)):
        return None
    workspace, api_key, until = FORM.unpack(body)
    if until <= (time.time() if now is None else now):
        return None
    return Login(UUID(bytes=workspace), UUID(bytes=api_key), until)


def _sign(key: bytes, body: bytes) -> bytes:
    return digest(key, body, "sha256")[:SIGNATURE]
