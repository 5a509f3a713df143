"""Render tokens: each page of a form carries one, so that a double click is one submission."""

import base64
import binascii
import secrets
import time
from hmac import compare_digest, digest
from uuid import UUID

from api import errors

LIFETIME = 24 * 3600
CLOCKS_DIFFER = 300
NONCE = 12
SIGNATURE = 16


def issue(key: bytes, workflow_id: UUID, *, now: float | None = None) -> str:
    """Make a token for one rendering of one form."""
    body = int(time.time() if now is None else now).to_bytes(8, "big") + secrets.token_bytes(NONCE)
    return base64.urlsafe_b64encode(body + _sign(key, workflow_id, body)).decode()


def read(key: bytes, workflow_id: UUID, token: str, *, now: float | None = None) -> str:
    """Name the rendering that a token stands for; raise RenderTokenRefused for a forged or expired one."""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise errors.RenderTokenRefused() from error
    body, signature = raw[: 8 + NONCE], raw[8 + NONCE :]
    if not compare_digest(signature, _sign(key, workflow_id, body)):
        raise errors.RenderTokenRefused()
    age = (time.time() if now is None else now) - int.from_bytes(body[:8], "big")
    if not -CLOCKS_DIFFER <= age <= LIFETIME:
        raise errors.RenderTokenRefused()
    return body.hex()


def _sign(key: bytes, workflow_id: UUID, body: bytes) -> bytes:
    return digest(key, workflow_id.bytes + body, "sha256")[:SIGNATURE]
