"""The one HTTP client for URLs that tenants give; it stands directly on httpx's engine, httpcore.

httpx itself is left out on purpose: it follows environment proxies, decodes bodies and keeps cookies
unless told otherwise, and costs twice the time per request.
"""

import asyncio
import re
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import httpcore

from activities.clients import addresses
from activities.clients.addresses import (
    BlockedDestination,
    DeadlineExceeded,
    Destination,
    OutwardError,
    RefusedHeader,
    Target,
    Unreachable,
)
from activities.clients.dialling import Connector, Dialler, Resolver, tls_context

__all__ = [
    "BlockedDestination",
    "Client",
    "DeadlineExceeded",
    "OutwardError",
    "RefusedHeader",
    "Reply",
    "Unreachable",
    "check_headers",
]

if find_spec("sniffio") is None:
    # httpcore tries to import it six times for a request, and Python looks through every folder each time for
    # what is not there. Said once, it costs nothing: httpcore then takes asyncio, as it did.
    sys.modules["sniffio"] = None  # type: ignore[assignment] # this is how Python notes an absence

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MAX_HEADERS = 16384
# Many servers drop idle connections after 5 s; leaving first spares us requests into closing ones.
KEEPALIVE = 4.0
CHUNK = 16384
# h11 bounds one event; this bounds all that precedes the body, so that endless 1xx cost no CPU.
MAX_HEAD = 65536

TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?")
# Framing and routing are ours alone.
FRAMING = re.compile(
    "host|content-length|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|accept-encoding"
    "|proxy-connection|proxy-authorization"
)
TENANT_REFUSED = ("cookie", "set-cookie")
TENANT_PREFIXES = ("webhook-", "svix-")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a target answered: header names in lower case, the body raw and cut at the limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    duration_ms: int


@dataclass
class _Exchange:
    """How far one request has come."""

    sent: bool = False

    async def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        # From the first byte on, the target may have acted on the request.
        if event == "http11.send_request_headers.started":
            self.sent = True


class _Stream(httpcore.AsyncNetworkStream):
    """A connection over asyncio's streams; deadlines are the client's, so timeouts are not looked at."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._head_left: int | None = MAX_HEAD
        self._unsent = bytearray()

    def head_is_read(self) -> None:
        """Let the body through, which its reader limits."""
        self._head_left = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            await self._flush()
            data = await self._reader.read(min(max_bytes, CHUNK))
        except OSError as error:
            raise httpcore.ReadError from error
        if self._head_left is not None:
            self._head_left -= len(data)
            if self._head_left < 0:
                raise httpcore.RemoteProtocolError("the head is too long")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # Head and body of a small request leave in one packet, when the answer is waited for.
        self._head_left = MAX_HEAD
        self._unsent += buffer
        if len(self._unsent) < CHUNK:
            return
        try:
            await self._flush()
        except OSError as error:
            raise httpcore.WriteError from error

    async def _flush(self) -> None:
        unsent, self._unsent = self._unsent, bytearray()
        if unsent:
            self._writer.write(unsent)
            await self._writer.drain()

    async def aclose(self) -> None:
        # Not close(): that waits for a peer who may never read, and holds the slot meanwhile.
        self._writer.transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except BaseException as error:
            await self.aclose()
            if isinstance(error, OSError):  # ssl.SSLError is one
                raise Unreachable("no TLS session") from error
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of idle connections: then it means that the peer has left
            return self._reader.at_eof() or self._writer.transport.is_closing() or _buffered(self._reader)
        return None


def _buffered(reader: asyncio.StreamReader) -> bool:
    return bool(reader._buffer)  # type: ignore[attr-defined]  # no public way to look without waiting


class _Backend(httpcore.AsyncNetworkBackend):
    """Where httpcore dials, and so where every address is checked."""

    def __init__(self, dialler: Dialler) -> None:
        self._dialler = dialler

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        connection = await self._dialler.dial(host, port)
        reader, writer = await asyncio.open_connection(sock=connection, limit=CHUNK)
        return _Stream(reader, writer)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Client:
    """A guarded HTTP client: pooled, never redirected, never proxied, always within its deadline."""

    def __init__(
        self,
        policy: Destination = addresses.PRODUCTION,
        resolver: Resolver | None = None,
        *,
        connector: Connector | None = None,
        tls: ssl.SSLContext | None = None,
        max_connections: int = 500,
    ) -> None:
        self._policy = policy
        self._dialler = Dialler(policy, resolver, connector)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or tls_context(),
            max_connections=max_connections,
            max_keepalive_connections=100,
            keepalive_expiry=KEEPALIVE,
            network_backend=_Backend(self._dialler),
        )

    async def check(self, url: str, *, deadline: float = 5.0) -> Target:
        """Judge a URL that somebody saves, names resolved; one that does not resolve today may pass."""
        target = addresses.parse(url, self._policy)
        try:
            async with asyncio.timeout(deadline):
                await self._dialler.vet(target.host)
        except (Unreachable, TimeoutError):
            return target
        return target

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        deadline: float = 15.0,
        max_bytes: int = 16384,
    ) -> Reply:
        """Send one request and read its answer, all within the deadline."""
        if method not in METHODS:
            raise ValueError(f"not a method to send: {method!r}")
        target = addresses.parse(url, self._policy)
        raw = _raw_headers(method, target, headers or {}, body)
        exchange = _Exchange()
        started = time.monotonic()
        request = httpcore.Request(
            method,
            httpcore.URL(
                scheme=target.scheme.encode(),
                host=target.host.encode(),
                port=target.port,
                target=target.path.encode(),
            ),
            headers=raw,
            content=body,
            extensions={"trace": exchange.trace},
        )
        async with _translated(exchange, deadline):
            status, answered, content, truncated = await self._exchange(request, max_bytes)
        duration = round((time.monotonic() - started) * 1000)
        return Reply(status=status, headers=answered, body=content, truncated=truncated, duration_ms=duration)

    async def _exchange(
        self, request: httpcore.Request, max_bytes: int
    ) -> tuple[int, dict[str, str], bytes, bool]:
        response = await self._pool.handle_async_request(request)
        stream = response.extensions["network_stream"]
        if isinstance(stream, _Stream):
            stream.head_is_read()
        try:
            content, truncated = await _read(response, max_bytes)
        finally:
            await response.aclose()
        return response.status, _answered(response.headers), content, truncated

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


async def _read(response: httpcore.Response, max_bytes: int) -> tuple[bytes, bool]:
    content = bytearray()
    async for chunk in response.aiter_stream():
        content += chunk
        if len(content) > max_bytes:
            return bytes(content[:max_bytes]), True
    return bytes(content), False


@asynccontextmanager
async def _translated(exchange: _Exchange, deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded(ambiguous=exchange.sent) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        raise Unreachable(ambiguous=exchange.sent) from error


def _answered(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    answered: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        answered[key] = f"{answered[key]}, {text}" if key in answered else text
    return answered


def _raw_headers(
    method: str, target: Target, headers: Mapping[str, str], body: bytes
) -> list[tuple[bytes, bytes]]:
    _check_form(headers)
    raw = [("Host", target.authority), ("Accept-Encoding", "identity"), *headers.items()]
    if not any(name.lower() == "user-agent" for name in headers):
        raw.append(("User-Agent", "FlowTrack"))
    if body or method in ("POST", "PUT", "PATCH"):
        raw.append(("Content-Length", str(len(body))))
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in raw]


def _check_form(headers: Mapping[str, str]) -> None:
    names = [name.lower() for name in headers]
    if len(set(names)) < len(names):
        raise RefusedHeader("a header is given twice")
    if sum(len(name) + len(value) + 4 for name, value in headers.items()) > MAX_HEADERS:
        raise RefusedHeader("the headers are too long")
    for name, value in headers.items():
        if not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
            raise RefusedHeader(f"not a valid header: {name!r}")
        if FRAMING.fullmatch(name.lower()):
            raise RefusedHeader(f"this header is set by FlowTrack: {name}")


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what a tenant's own headers must not hold: ours, the framing's, and control characters."""
    _check_form(headers)
    for name in headers:
        if name.lower() in TENANT_REFUSED or name.lower().startswith(TENANT_PREFIXES):
            raise RefusedHeader(f"this header may not be set: {name}")
