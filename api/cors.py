"""Cross-origin access: all may use a public form that names no origins, the Web UI alone the codec."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors

PREFIX = "/f/"
DECODING = ("/codec/decode", "/codec/encode")
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Idempotency-Key, X-Request-Id",
    "Access-Control-Max-Age": "600",
}


class PublicForms:
    """Lets scripts of other sites read the answers of public forms, problems included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                _allow(MutableHeaders(scope=message), scope["state"].get("cors", "*"))
            await send(message)

        await self._app(scope, receive, answer)


class TemporalUI:
    """Lets the Temporal Web UI, and no other site, ask the codec server with its user's cookie."""

    def __init__(self, app: ASGIApp, *, origin: str | None) -> None:
        self._app = app
        self._decoding = CORSMiddleware(
            app,
            allow_origins=[origin] if origin else [],
            allow_credentials=True,
            allow_methods=["POST"],
            allow_headers=["Content-Type", "X-Namespace", "Authorization", "Authorization-Extras"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        decodes = scope["type"] == "http" and scope["path"] in DECODING
        await (self._decoding if decodes else self._app)(scope, receive, send)


def admit(request: Request, allowed: Sequence[str], *, own: str) -> None:
    """Refuse a submission from a site that the form does not name; our own page may always send."""
    origin = request.headers.get("origin")
    if not allowed or "*" in allowed:
        return
    known = {*allowed, own.rstrip("/"), f"{request.url.scheme}://{request.url.netloc}"}
    request.state.cors = origin if origin in known else None
    if origin is not None and origin not in known:
        raise errors.OriginRefused()


def _allow(headers: MutableHeaders, origin: str | None) -> None:
    headers.add_vary_header("Origin")
    if origin is not None:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = "X-Request-Id, Idempotent-Replayed, Retry-After"
