"""The mail catcher: keeps what FlowTrack sends by SMTP and shows it; webhooks arrive by its side."""

import asyncio
import html
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aiosmtpd.smtp import SMTP, Envelope, Session

from local import webhooks

LARGEST = 30 * 1024 * 1024
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Message:
    """One caught mail; `from` and `to` are the envelope's, so that a Bcc shows."""

    id: str
    sender: str
    to: list[str]
    subject: str
    text: str | None
    html: str | None
    headers: dict[str, str]
    received_at: str

    def as_json(self) -> dict[str, object]:
        """Shape the message for clients."""
        shaped = asdict(self)
        return {"id": shaped.pop("id"), "from": shaped.pop("sender"), **shaped}


class Mailbox:
    """The folder of caught mails: for each an .eml with the very bytes, and its envelope beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, content: bytes, *, sender: str, to: list[str]) -> str:
        """Store a mail and name it; ids sort by arrival."""
        mail_id = f"{time.time_ns():020d}"
        envelope = {"from": sender, "to": to, "received_at": datetime.now(UTC).isoformat()}
        (self.folder / f"{mail_id}.json").write_text(json.dumps(envelope))
        # The mail itself comes last and whole: what has no .eml was never answered with 250.
        draft = self.folder / f"{mail_id}.part"
        draft.write_bytes(content)
        draft.rename(self.folder / f"{mail_id}.eml")
        return mail_id

    def messages(self) -> list[Message]:
        """Read every mail, the oldest first."""
        return [self._read(path) for path in sorted(self.folder.glob("*.eml"))]

    def source(self, mail_id: str) -> bytes | None:
        """Read one mail's bytes."""
        path = self.folder / f"{mail_id}.eml"
        return path.read_bytes() if mail_id.isdigit() and path.exists() else None

    def _read(self, path: Path) -> Message:
        envelope = json.loads(path.with_suffix(".json").read_text())
        parsed = message_from_bytes(path.read_bytes(), policy=policy.default)
        headers: dict[str, str] = {}
        for name, value in parsed.items():
            headers[name] = f"{headers[name]}\n{value}" if name in headers else str(value)
        return Message(
            id=path.stem,
            sender=envelope["from"],
            to=envelope["to"],
            subject=str(parsed["Subject"] or ""),
            text=_body(parsed, "plain"),
            html=_body(parsed, "html"),
            headers=headers,
            received_at=envelope["received_at"],
        )


class Catcher:
    """The SMTP server and the small web server in front of one mailbox, both in the running event loop."""

    def __init__(self, folder: Path) -> None:
        self.mailbox = Mailbox(folder)
        self.inbox = webhooks.Inbox(folder / "webhooks")
        self._servers: list[asyncio.Server] = []
        self.smtp_port = 0
        self.http_port = 0

    @property
    def smtp_url(self) -> str:
        """Give the URL to send through."""
        return f"smtp://{HOST}:{self.smtp_port}"

    @property
    def url(self) -> str:
        """Give the URL to look at: a page for browsers, JSON for everybody else."""
        return f"http://{HOST}:{self.http_port}"

    def messages(self) -> list[Message]:
        """Read every mail caught so far, the oldest first."""
        return self.mailbox.messages()

    async def start(self, *, smtp_port: int, http_port: int) -> None:
        """Listen on both ports; 0 takes any free one."""
        loop = asyncio.get_running_loop()
        smtp = await loop.create_server(self._protocol, HOST, smtp_port)
        web = await asyncio.start_server(self._answer, HOST, http_port)
        self._servers = [smtp, web]
        self.smtp_port = smtp.sockets[0].getsockname()[1]
        self.http_port = web.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.close()
            await server.wait_closed()

    async def handle_DATA(  # noqa: N802 - aiosmtpd calls its hooks so
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Keep a mail before it is accepted."""
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        mail_id = self.mailbox.keep(content, sender=envelope.mail_from or "", to=envelope.rcpt_tos)
        return f"250 OK, kept as {mail_id}"

    def _protocol(self) -> SMTP:
        return SMTP(self, data_size_limit=LARGEST, enable_SMTPUTF8=True, hostname="flowtrack.local")

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(10):
                request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                body = await _read_body(reader, headers_of(request))
            writer.write(respond(self.mailbox, self.inbox, request, body))
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    length = headers.get("content-length", "0")
    return await reader.readexactly(min(int(length), LARGEST)) if length.isdigit() else b""


def headers_of(request: str) -> dict[str, str]:
    """Read a request's headers, names in lower case."""
    lines = (line.partition(":") for line in request.split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, colon, value in lines if colon}


def respond(mailbox: Mailbox, inbox: webhooks.Inbox, request: str, body: bytes = b"") -> bytes:
    """Answer one HTTP request about the mails, or about the webhooks."""
    method, target, *_ = [*request.split(" ", 2), "", ""]
    path = unquote(urlsplit(target).path)
    if path == webhooks.PATH:
        if method == "POST":
            inbox.keep(headers_of(request), body)
        return _json(inbox.received() if method == "GET" else {})
    if method != "GET":
        return _response(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"Only GET is answered here.\n")
    return _show(mailbox, path, wants_page="text/html" in request)


def _show(mailbox: Mailbox, path: str, *, wants_page: bool) -> bytes:
    if path == "/" and wants_page:
        return _response(HTTPStatus.OK, "text/html", page(mailbox.messages()).encode())
    if path in ("/", "/messages"):
        return _json([message.as_json() for message in mailbox.messages()])
    source = mailbox.source(path.removeprefix("/messages/").removesuffix(".eml"))
    if source is None:
        return _response(HTTPStatus.NOT_FOUND, "text/plain", b"No such mail.\n")
    return _response(HTTPStatus.OK, "text/plain", source)


def _json(value: object) -> bytes:
    return _response(HTTPStatus.OK, "application/json", json.dumps(value).encode())


def page(messages: list[Message]) -> str:
    """Draw the list of mails, the newest first."""
    rows = "\n".join(_row(message) for message in reversed(messages)) or "<p>No mail yet.</p>"
    return PAGE.replace("{{rows}}", rows).replace("{{count}}", str(len(messages)))


def _row(message: Message) -> str:
    escape: Callable[[str], str] = html.escape
    frame = (
        "" if message.html is None else f'<iframe sandbox srcdoc="{escape(SEAL + message.html)}"></iframe>'
    )
    return (
        f"<details><summary><b>{escape(message.subject or '(no subject)')}</b>"
        f"<span>{escape(message.sender)} → {escape(', '.join(message.to))}</span>"
        f"<time>{escape(message.received_at[:19].replace('T', ' '))} UTC</time></summary>"
        f"{frame}<pre>{escape(message.text or '')}</pre>"
        f'<a href="/messages/{message.id}.eml">source</a></details>'
    )


def _body(parsed: EmailMessage, kind: str) -> str | None:
    part = parsed.get_body(preferencelist=(kind,))
    if part is None:
        return None
    try:
        return str(part.get_content()).replace("\r\n", "\n")
    except (LookupError, ValueError):
        # An unknown charset, or bytes that are not in the one named.
        raw = part.get_payload(decode=True)
        return raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else None


def _response(status: HTTPStatus, content_type: str, body: bytes) -> bytes:
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}; charset=utf-8",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


# A mail's own HTML is a stranger's: it is shown in a frame that may run nothing and load nothing.
SEAL = """<meta http-equiv=Content-Security-Policy content="default-src 'none'; style-src 'unsafe-inline'">"""
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="30"><title>Mail ({{count}})</title>
<style>
 :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
 body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
 details { border-bottom: 1px solid #8884; padding: .75rem 0 }
 summary { cursor: pointer; display: grid; gap: .1rem }
 summary span, summary time { opacity: .7; font-size: .9rem }
 iframe { width: 100%; height: 20rem; border: 1px solid #8884; background: #fff; margin-top: .75rem }
 pre { white-space: pre-wrap; overflow-wrap: anywhere }
</style>
<h1>Mail</h1>
<p>Everything FlowTrack sent on this machine, kept here instead of leaving it.
 The same as <a href="/messages">JSON</a>; the <a href="/webhooks">webhooks</a> that arrived.</p>
{{rows}}
</html>
"""
