"""Bodies, before anything parses them: size, time, type, and JSON that can be stored (security.md F1, O3)."""

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors, requests, strictjson


@dataclass(frozen=True)
class Door:
    """What one part of the address space takes."""

    prefix: str
    max_bytes: int
    max_depth: int
    takes_forms: bool = False


PUBLIC = Door("/f/", 64 * 1024, 32, takes_forms=True)
LINKS = (Door("/a/", 4 * 1024, 4, takes_forms=True), Door("/u/", 4 * 1024, 4, takes_forms=True))
HOOKS = Door("/hooks/", 64 * 1024, 32)
CODEC = (
    # A login is a form; the rest is Temporal's protocol (security.md K5).
    Door("/codec/log", 4 * 1024, 4, takes_forms=True),
    Door("/codec/", 1024 * 1024, 16),
)
API = Door("/", 4 * 1024 * 1024, 64)
DOORS = (PUBLIC, HOOKS, *LINKS, *CODEC, API)
PATIENCE = 10.0
UNREAD = "/internal/"
"""Where nobody reads a body: none is taken in, whatever its size and type (api/routes/closes.py)."""
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")


class Bodies:
    """Reads each body once, within its limits, and hands on only what the handlers can digest."""

    def __init__(self, app: ASGIApp, *, docs_url: str, patience: float = PATIENCE) -> None:
        self._app = app
        self._docs_url = docs_url
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(UNREAD):
            await self._app(scope, receive, send)
            return
        try:
            body = await self._accept(scope, receive)
        except errors.Refusal as refusal:
            if isinstance(refusal, errors.BodyTooLarge | errors.BodyTimeout):
                # What is still under way is not read: the connection cannot be used again.
                refusal.headers["Connection"] = "close"
            answer = errors.response(
                refusal, request_id=requests.request_id_of(scope), docs_url=self._docs_url
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _accept(self, scope: Scope, receive: Receive) -> bytes:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        door = next(door for door in DOORS if scope["path"].startswith(door.prefix))
        if b"%00" in scope["query_string"]:
            detail = errors.Detail(code="nul_character", message=strictjson.NUL.message, parameter="*")
            raise errors.Invalid(errors=[detail])
        if headers.get(b"content-encoding", "identity").strip().lower() != "identity":
            raise errors.MediaTypeRefused("Send the body without a content encoding.")
        body = await self._read(headers, receive, door.max_bytes)
        scope["state"]["body_hash"] = sha256(body).digest()
        if body:
            scope["state"]["json"] = _check(body, headers.get(b"content-type", ""), door)
        return body

    async def _read(self, headers: dict[bytes, str], receive: Receive, limit: int) -> bytes:
        declared = headers.get(b"content-length", "0")
        if not declared.isdigit() or int(declared[:20]) > limit:
            raise errors.BodyTooLarge(f"This address takes {limit} bytes at most.")
        try:
            async with asyncio.timeout(self._patience):
                return await _collect(receive, limit)
        except TimeoutError as error:
            raise errors.BodyTimeout() from error


async def _collect(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise errors.Malformed("The body broke off.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise errors.BodyTooLarge(f"This address takes {limit} bytes at most.")
        if not message.get("more_body", False):
            return b"".join(parts)


def media_type(content_type: str) -> str:
    """Name a content type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Tell whether a content type promises JSON."""
    kind = media_type(content_type)
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _check(body: bytes, content_type: str, door: Door) -> Any:
    if is_json(content_type):
        charset = content_type.lower().partition("charset=")[2].strip(' "')
        if charset not in ("", "utf-8", "utf8"):
            raise errors.MediaTypeRefused()
        return strictjson.loads(body, max_depth=door.max_depth)
    if door.takes_forms and media_type(content_type) in FORM_TYPES:
        return None
    raise errors.MediaTypeRefused()


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
