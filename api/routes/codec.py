"""The codec server: it decodes payloads for the Temporal Web UI and its CLI, each caller its own workspace's.

Temporal's protocol, not ours: `POST …/decode` takes and returns `{"payloads": […]}` as protobuf's JSON. It
never encrypts. A browser is known by the cookie of /codec/login, everybody else by an API key.
"""

import math
from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from temporalio.api.common.v1 import Payload, Payloads

from activities.clients.keyring import NoKey
from activities.clients.payloads import Codec, Unreadable, is_ours, key_name
from api import auth, errors, logins
from api.auth import Caller
from api.deps import OurPlatform, Platform
from api.pages import codec as page
from db import keys
from db.models import Workspace

log = structlog.get_logger()
router = APIRouter(include_in_schema=False)

SCOPE = "codec:decode"
MOST = 200
"""Payloads in a request."""
MOST_BYTES = 16 * 1024 * 1024
"""Of an answer, about: a claim is short, and what it stands for is not. The rest comes back as it was."""
OURS = ("same-origin", "none")
"""How a browser says that a request comes from our own page, or was typed."""
WRONG = "This is no API key that may decode payloads: it needs the scope codec:decode."


@router.post("/codec/decode")
async def payloads_decode(request: Request, platform: OurPlatform) -> Response:
    """Decode what is the caller's workspace's; the rest comes back as it was."""
    reader = await _reader(request, platform)
    asked = _taken(request, platform, reader)
    answer = await _decoded(platform, reader, asked.payloads)
    opened = sum(new is not old for new, old in zip(answer, asked.payloads, strict=True))
    log.info(
        "payloads decoded",
        workspace_id=str(reader.workspace_id),
        api_key_id=str(reader.api_key_id),
        asked=len(answer),
        opened=opened,
    )
    return JSONResponse({"payloads": [MessageToDict(payload) for payload in answer]})


@router.post("/codec/encode")
async def payloads_encode(request: Request, platform: OurPlatform) -> Response:
    """Give back what came: the Web UI asks before it sends an update, and a run reads what is in the clear.

    To encrypt it would take the key of the run's workspace, which nobody names here; with another one the run
    could not go on.
    """
    asked = _taken(request, platform, await _reader(request, platform))
    return JSONResponse({"payloads": [MessageToDict(payload) for payload in asked.payloads]})


@router.get("/codec/login")
async def login_ask(request: Request, platform: OurPlatform) -> Response:
    """Show who is logged in, or ask."""
    reader = await _by_cookie(request, platform)
    if reader is None:
        return _html(page.login())
    async with platform.database.workspace(reader.workspace_id) as session:
        found = await session.get(Workspace, reader.workspace_id)
    name = found.name if found else ""
    return _html(page.known(workspace=name, endpoint=f"{platform.config.public_url.rstrip('/')}/codec"))


@router.post("/codec/login")
async def login_take(request: Request, platform: OurPlatform) -> Response:
    """Log a browser in by an API key, for twelve hours or until the key is revoked."""
    _check_site(request)
    given = (await request.form()).get("api_key")
    reader = await _by_token(request, given.strip() if isinstance(given, str) else "")
    if reader is None or reader.api_key_id is None or not reader.may(SCOPE):
        return _html(page.login(mistake=WRONG), 401)
    key = platform.config.derive(logins.PURPOSE)
    answer = RedirectResponse("/codec/login", 303)
    answer.set_cookie(
        logins.COOKIE,
        logins.issue(key, reader.workspace_id, reader.api_key_id),
        max_age=logins.LIFETIME,
        path="/codec",
        secure=platform.config.public_url.startswith("https:"),
        httponly=True,
        # The Web UI's requests come from another origin of the same site; other sites' come without it.
        samesite="strict",
    )
    log.info("codec login", workspace_id=str(reader.workspace_id), api_key_id=str(reader.api_key_id))
    return answer


@router.post("/codec/logout")
async def login_end(request: Request) -> Response:
    """Log a browser out."""
    _check_site(request)
    answer = RedirectResponse("/codec/login", 303)
    answer.delete_cookie(logins.COOKIE, path="/codec")
    return answer


async def _reader(request: Request, platform: Platform) -> Caller:
    """Name who asks: by API key, or by a cookie that came from the Web UI."""
    if "authorization" in request.headers:
        credentials = await auth.bearer(request)
        reader = await auth.authenticate(request, credentials)
        if not reader.may(SCOPE):
            raise errors.Forbidden(f"This API key lacks the scope {SCOPE}.")
        return reader
    origin = request.headers.get("origin")
    if origin is not None and origin != platform.config.temporal_ui_origin:
        raise errors.OriginRefused("Payloads are decoded for the Temporal Web UI alone.")
    known = await _by_cookie(request, platform)
    if known is None:
        raise errors.Unauthorized(f"Log in at {platform.config.public_url.rstrip('/')}/codec/login first.")
    return known


async def _by_token(request: Request, token: str) -> Caller | None:
    for authenticator in request.app.state.authenticators:
        if len(token) <= auth.MAX_TOKEN and authenticator.knows(token):
            found: Caller | None = await authenticator.caller(token, request)
            return found
    return None


async def _by_cookie(request: Request, platform: Platform) -> Caller | None:
    """Read the login; the key behind it may have been revoked since."""
    login = logins.read(platform.config.derive(logins.PURPOSE), request.cookies.get(logins.COOKIE, ""))
    if login is None:
        return None
    async with platform.database.workspace(login.workspace_id) as session:
        scopes = await keys.live_scopes(session, login.workspace_id, login.api_key_id)
    if scopes is None:
        return None
    reader = Caller(login.workspace_id, frozenset(scopes), api_key_id=login.api_key_id)
    return reader if reader.may(SCOPE) else None


def _check_site(request: Request) -> None:
    if request.headers.get("sec-fetch-site", OURS[0]) not in OURS:
        raise errors.OriginRefused("Log in on this site's own page.")


def _taken(request: Request, platform: Platform, reader: Caller) -> Payloads:
    """Read what is asked for, if there are not too many: each may cost a look into the database."""
    body = getattr(request.state, "json", None)
    given = body.get("payloads") if isinstance(body, dict) else None
    count = len(given) if isinstance(given, list) else 0
    wait = platform.decodes.take(reader.api_key_id or reader.user_id, count=min(max(count, 1), MOST))
    if wait:
        raise errors.TooManyRequests(retry_after=math.ceil(wait))
    if count > MOST:
        detail = errors.Detail(
            code="too_many",
            message=f"{count} payloads are more than {MOST}.",
            pointer="/payloads",
            remedy=f"Send them in requests of {MOST} at most.",
        )
        raise errors.Invalid(f"At most {MOST} payloads fit into a request.", errors=[detail])
    return _parsed(body)


def _parsed(body: Any) -> Payloads:
    if not isinstance(body, dict):
        raise errors.Invalid('The body must be {"payloads": […]}, as protobuf writes JSON.')
    try:
        return ParseDict(body, Payloads())
    except ParseError as error:
        detail = errors.Detail(code="no_payload", message=str(error)[:300], pointer="/payloads")
        raise errors.Invalid("These are no payloads.", errors=[detail]) from error


async def _decoded(platform: Platform, reader: Caller, asked: Sequence[Payload]) -> list[Payload]:
    answer: list[Payload] = []
    left = MOST_BYTES
    for payload in asked:
        answer.append(await _opened(platform, reader, payload) if left > 0 else payload)
        left -= len(answer[-1].data)
    return answer


async def _opened(platform: Platform, reader: Caller, payload: Payload) -> Payload:
    if not is_ours(payload):
        return payload
    try:
        key = await platform.keyring.reading(key_name(payload))
        if key.workspace_id != reader.workspace_id:
            return payload
        (opened,) = await Codec(platform.keyring, platform.blobs).decode([payload])
    except (NoKey, Unreadable):
        return payload
    return opened


def _html(content: str, status: int = 200) -> Response:
    return HTMLResponse(content, status, {"Content-Security-Policy": page.POLICY})
