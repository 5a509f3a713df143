"""Sending mail over SMTP, with an outcome that says whether the message may have left.

OutwardError
├── Refused     5xx: certainly not sent, and never will be
├── Deferred    4xx, or the connection failed before the final dot: certainly not sent, try again
└── Ambiguous   the connection failed after the final dot: nobody knows
"""

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

import aiosmtplib
from aiosmtplib import SMTP, SMTPException, SMTPResponse, SMTPResponseException

from activities.clients import addresses
from activities.clients.addresses import Destination, OutwardError, Unreachable
from activities.clients.dialling import Connector, Dialler, Resolver, tls_context

# Servers limit the messages of one session; many at 100.
MAX_SENDS = 100
ADDRESS = re.compile(r"[\x21-\x3b\x3d\x3f-\x7e]+@[A-Za-z0-9.\[\]:-]+")
LINE_END = re.compile(rb"\r\n|\r|\n")
LEADING_DOT = re.compile(rb"(?m)^\.")


class TLS(StrEnum):
    """How the connection to a mail server is encrypted."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


class Refused(OutwardError):
    """The mail server refused the message; it was not sent."""

    code = "mail_refused"


class Deferred(OutwardError):
    """The mail server did not take the message now; it was not sent."""

    code = "mail_deferred"


class Ambiguous(OutwardError):
    """The connection broke after the message had been handed over; it may have been sent."""

    code = "mail_unknown"

    def __init__(self, message: str = "") -> None:
        super().__init__(message, ambiguous=True)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What the server said on taking the message, and whom it refused for good."""

    reply: str
    refused: dict[str, str] = field(default_factory=dict)


@dataclass
class _Session:
    """One connection to the server and what the pool must know of it."""

    smtp: SMTP
    idle_since: float = 0.0
    sends: int = 0
    clean: bool = True  # between two transactions, nothing outstanding

    def abort(self) -> None:
        """Drop the connection without sending what still waits in its buffer."""
        if self.smtp.transport is not None:
            cast(asyncio.Transport, self.smtp.transport).abort()
        self.smtp.close()

    def leave(self) -> None:
        """Say goodbye without waiting for the answer."""
        if self.smtp.protocol is not None and self.smtp.is_connected:
            self.smtp.protocol.write(b"QUIT\r\n")
        self.smtp.close()


class Connection:
    """A session that is ready for a message."""

    def __init__(
        self, session: _Session, reopen: Callable[[], Coroutine[Any, Any, _Session]], *, deadline: float
    ) -> None:
        self.session = session
        self._reopen = reopen
        self._deadline = deadline
        self._dotted = False

    async def send(self, message: bytes, sender: str, recipients: Sequence[str]) -> Receipt:
        """Hand one message over; all recipients deferred or refused means that none gets it."""
        if not recipients or not all(ADDRESS.fullmatch(each) for each in (sender, *recipients) if each):
            raise Refused("not an address for an envelope")
        self._dotted, self.session.clean = False, False
        try:
            async with asyncio.timeout(self._deadline):
                return await self._transaction(message, sender, recipients)
        except OutwardError:
            raise
        except (OSError, SMTPException) as error:  # a broken connection, the deadline, or gibberish
            self.session.abort()
            raise self._failure(f"{type(error).__name__} while sending") from error
        finally:
            if not self.session.clean:
                self.session.abort()

    def _failure(self, reason: str) -> OutwardError:
        return Ambiguous(reason) if self._dotted else Deferred(reason)

    async def _transaction(self, message: bytes, sender: str, recipients: Sequence[str]) -> Receipt:
        body = LEADING_DOT.sub(b"..", LINE_END.sub(b"\r\n", message.rstrip(b"\r\n") + b"\r\n"))
        await self._open_envelope(body, sender)
        refused = await self._name(recipients)
        await self._expect(354, b"DATA")
        await self._write(body)
        self._dotted = True
        reply = await self.session.smtp.execute_command(b".")
        if reply.code // 100 not in (2, 4, 5):
            raise Ambiguous(f"the server answered {reply.code} to the message")
        self.session.clean = True
        self.session.sends += 1
        _raise_unless_taken(reply)
        return Receipt(reply=reply.message, refused=refused)

    async def _open_envelope(self, body: bytes, sender: str) -> None:
        options = self._options(body)
        command = (b"MAIL", f"FROM:<{sender}>".encode("ascii"), *options)
        try:
            reply = await self.session.smtp.execute_command(*command)
        except aiosmtplib.SMTPServerDisconnected:
            reply = SMTPResponse(421, "disconnected")
        if reply.code == 421 and self.session.sends:
            # The server had grown tired of an idle session: nothing has been sent, so begin anew.
            self.session = await self._reopen()
            self.session.clean = False
            reply = await self.session.smtp.execute_command(*command)
        if reply.code != 250:
            await self._reset()
            _raise_unless_taken(reply)
            raise Deferred(_said(reply))

    def _options(self, body: bytes) -> list[bytes]:
        extensions, options = self.session.smtp.esmtp_extensions, []
        limit = extensions.get("size", "")
        if limit.isdecimal() and 0 < int(limit) < len(body):
            self.session.clean = True
            raise Refused(f"the server takes no message over {limit} bytes")
        if "size" in extensions:
            options.append(b"SIZE=%d" % len(body))
        if not body.isascii():
            if "8bitmime" not in extensions:
                self.session.clean = True
                raise Refused("the server takes 7-bit messages only")
            options.append(b"BODY=8BITMIME")
        return options

    async def _name(self, recipients: Sequence[str]) -> dict[str, str]:
        """Name the recipients: one deferred defers the message, so that a retry doubles nothing."""
        replies = {}
        for recipient in recipients:
            command = f"TO:<{recipient}>".encode("ascii")
            replies[recipient] = await self.session.smtp.execute_command(b"RCPT", command)
        not_taken = {who: reply for who, reply in replies.items() if reply.code not in (250, 251)}
        for reply in not_taken.values():
            if reply.code // 100 != 5:
                await self._reset()
                raise Deferred(_said(reply))
        if len(not_taken) == len(replies):
            await self._reset()
            raise Refused(_said(next(iter(not_taken.values()))))
        return {who: _said(reply) for who, reply in not_taken.items()}

    async def _expect(self, code: int, *command: bytes) -> None:
        reply = await self.session.smtp.execute_command(*command)
        if reply.code != code:
            await self._reset()
            _raise_unless_taken(reply)
            raise Deferred(_said(reply))

    async def _write(self, body: bytes) -> None:
        """Write the body and wait until it is out: a failure up to here has certainly sent nothing."""
        protocol, transport = self.session.smtp.protocol, self.session.smtp.transport
        if protocol is None or transport is None:
            raise Deferred("disconnected")
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=0)
        protocol.write(body)
        await protocol._drain_helper()  # what asyncio's own StreamWriter.drain calls
        if not self.session.smtp.is_connected:
            raise Deferred("disconnected")

    async def _reset(self) -> None:
        try:
            reply = await self.session.smtp.execute_command(b"RSET")
        except SMTPException:
            return
        self.session.clean = reply.code == 250


def _said(reply: SMTPResponse) -> str:
    return f"{reply.code} {reply.message}"[:500]


def _raise_unless_taken(reply: SMTPResponse) -> None:
    if reply.code // 100 == 5:
        raise Refused(_said(reply))
    if reply.code // 100 == 4:
        raise Deferred(_said(reply))


class SMTPClient:
    """Sessions with one mail server, kept open between messages."""

    def __init__(
        self,
        host: str,
        port: int,
        username: str | None = None,
        password: str | None = None,
        *,
        tls: TLS = TLS.STARTTLS,
        policy: Destination = addresses.MAIL,
        resolver: Resolver | None = None,
        connector: Connector | None = None,
        context: ssl.SSLContext | None = None,
        helo: str = "[127.0.0.1]",
        max_connections: int = 5,
        max_idle: float = 30.0,
        noop_after: float = 5.0,
        connect_deadline: float = 10.0,
        deadline: float = 30.0,
    ) -> None:
        if username is not None and tls is TLS.NONE and not policy.allow_private:
            raise ValueError("a password does not travel in clear: use starttls or implicit")
        self._target = addresses.parse_host(host, port, policy)
        self._dialler = Dialler(policy, resolver, connector)
        self._login = (username, password)
        self._tls = tls
        self._context = context
        self._helo = helo
        self._max_idle = max_idle
        self._noop_after = noop_after
        self._connect_deadline = connect_deadline
        self._deadline = deadline
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: deque[_Session] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Hold a session that is ready to send; to fail here is to have sent nothing."""
        await self._slot()
        try:
            connection = Connection(await self._session(), self._open, deadline=self._deadline)
            try:
                yield connection
            finally:
                self._keep(connection.session)
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        """Leave every idle session."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        _leave(self._idle)
        self._idle.clear()

    async def _slot(self) -> None:
        try:
            async with asyncio.timeout(self._connect_deadline):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Deferred("all connections are busy") from error

    async def _session(self) -> _Session:
        now = asyncio.get_running_loop().time()
        while self._idle:
            session = self._idle.pop()
            if session.smtp.is_connected and (
                now - session.idle_since < self._noop_after or await self._answers(session)
            ):
                return session
            session.abort()
        return await self._open()

    async def _answers(self, session: _Session) -> bool:
        try:
            async with asyncio.timeout(min(2.0, self._connect_deadline)):
                return (await session.smtp.execute_command(b"NOOP")).code == 250
        except (OSError, SMTPException):
            return False
        except BaseException:
            session.abort()
            raise

    def _keep(self, session: _Session) -> None:
        if not (session.clean and session.smtp.is_connected):
            session.abort()
            return
        if session.sends >= MAX_SENDS:
            session.leave()
            return
        loop = asyncio.get_running_loop()
        session.idle_since = loop.time()
        self._idle.append(session)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._max_idle, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        stale = loop.time() - self._max_idle
        while self._idle and self._idle[0].idle_since <= stale:
            self._idle.popleft().leave()
        self._sweeper = (
            loop.call_at(self._idle[0].idle_since + self._max_idle, self._sweep) if self._idle else None
        )

    async def _open(self) -> _Session:
        try:
            async with asyncio.timeout(self._connect_deadline):
                return await self._connected()
        except SMTPResponseException as error:
            _raise_unless_taken(SMTPResponse(error.code, error.message))
            raise Deferred(f"the server answered {error.code}") from error
        except (OSError, Unreachable) as error:  # the connection errors of aiosmtplib are OSErrors too
            raise Deferred("no connection to the mail server") from error
        except SMTPException as error:
            raise Refused(error.message) from error  # no STARTTLS or no AUTH where it is asked for

    async def _connected(self) -> _Session:
        connection = await self._dialler.dial(self._target.host, self._target.port)
        username, password = self._login
        smtp = SMTP(
            hostname=self._target.host,
            username=username,
            password=password,
            local_hostname=self._helo,
            timeout=None,
            use_tls=self._tls is TLS.IMPLICIT,
            start_tls=self._tls is TLS.STARTTLS,
            tls_context=None if self._tls is TLS.NONE else self._context or tls_context(),
            sock=connection,
        )
        session = _Session(smtp)
        try:
            await smtp.connect()
            if smtp.is_ehlo_or_helo_needed:
                await _greet(smtp)
        except BaseException:
            # aiosmtplib has let go of its transport, which may still wait for the peer's TLS farewell;
            # closing the socket under it is not ours, ending its conversation is.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            raise
        return session


async def _greet(smtp: SMTP) -> None:
    try:
        await smtp.ehlo()
    except aiosmtplib.SMTPHeloError:
        await smtp.helo()


def _leave(sessions: Iterable[_Session]) -> None:
    for session in sessions:
        session.leave()
