"""Cross-origin access to public forms: open to all, without credentials, unless the form names origins."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors

PREFIX = "/f/"
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
