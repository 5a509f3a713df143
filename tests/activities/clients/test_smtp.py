"""The SMTP client against real servers, well-behaved and not: was it sent, not sent, or is it unknown?"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import trustme
from aiosmtpd import smtp as aiosmtpd
from aiosmtpd.smtp import AuthResult

from activities.clients import mail, smtp
from activities.clients.addresses import MAIL_OPERATOR, BlockedDestination
from activities.clients.smtp import TLS, Ambiguous, Deferred, Refused, SMTPClient

pytestmark = pytest.mark.anyio

MESSAGE = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: x\r\n\r\n.dot\r\n..two\r\nlone\nend\r\n"
ARRIVED = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: x\r\n\r\n.dot\r\n..two\r\nlone\r\nend\r\n"
A, B, C = "a@example.com", "b@example.com", "c@example.com"


class Inbox:
    """Keeps what arrives and answers as told, by the step's name."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.taken: list[tuple[str, list[str], bytes]] = []
        self.sessions = 0
        self.peers: set[object] = set()

    async def handle_MAIL(self, server, session, envelope, address, options):
        self.peers.add(session.peer)
        envelope.mail_from = address
        return self.answers.get("mail", "250 OK")

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = self.answers.get(address, self.answers.get("rcpt", "250 OK"))
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server, session, envelope):
        if self.answers.get("data") == "drop":
            cast(asyncio.Transport, server.transport).abort()
            return "250 OK"
        if self.answers.get("data") == "hang":
            await asyncio.sleep(60)
        answer = self.answers.get("data", "250 Queued")
        if answer.startswith("2"):
            self.taken.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return answer


@pytest.fixture
async def mail_server() -> AsyncIterator[Callable[..., Awaitable[int]]]:
    servers, protocols = [], []

    async def start(inbox: Inbox, *, implicit: ssl.SSLContext | None = None, **options: Any) -> int:
        def build() -> aiosmtpd.SMTP:
            inbox.sessions += 1
            protocols.append(aiosmtpd.SMTP(inbox, hostname="test", **options))
            return protocols[-1]

        server = await asyncio.get_running_loop().create_server(build, "127.0.0.1", 0, ssl=implicit)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for protocol in protocols:
        if protocol.transport is not None:
            cast(asyncio.Transport, protocol.transport).abort()
        if protocol._handler_coroutine is not None:
            protocol._handler_coroutine.cancel()
    await asyncio.sleep(0.01)


def client_of(port: int, **options: object) -> SMTPClient:
    settings = {
        "tls": TLS.NONE,
        "policy": MAIL_OPERATOR,
        "deadline": 10.0,
        "connect_deadline": 10.0,
        **options,
    }
    return SMTPClient("127.0.0.1", port, **settings)  # type: ignore[arg-type]


async def send(
    client: SMTPClient, recipients: tuple[str, ...] = (B,), message: bytes = MESSAGE
) -> smtp.Receipt:
    async with client.connection() as connection:
        return await connection.send(message, A, recipients)


async def test_a_message_arrives_byte_by_byte(mail_server):
    inbox = Inbox()
    client = client_of(await mail_server(inbox))
    receipt = await send(client, (B, C))
    assert receipt.reply == "Queued"
    assert inbox.taken == [(A, [B, C], ARRIVED)]
    await client.aclose()


async def test_a_composed_message_arrives_as_composed(mail_server):
    inbox = Inbox()
    client = client_of(await mail_server(inbox))
    composed = mail.compose(
        sender=mail.Mailbox(A, "Léa"),
        to=[B],
        bcc=[C],
        subject="Grüße",
        html="<p>.\n.dots<br>Straße</p>",
        message_id=mail.message_id("run", "node", 1, "email", domain="flowtrack.example"),
        date=datetime(2026, 11, 23, tzinfo=UTC),
    )
    async with client.connection() as connection:
        await connection.send(composed.message, composed.sender, composed.recipients)
    assert inbox.taken == [(A, [B, C], composed.message)]
    await client.aclose()


@pytest.mark.parametrize(
    "end", [b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n"]
)
async def test_no_body_smuggles_a_second_message_in(mail_server, end):
    inbox = Inbox()
    client = client_of(await mail_server(inbox))
    evil = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<c@example.com>\r\nDATA\r\nSubject: evil\r\n\r\nx"
    await send(client, message=b"Subject: x\r\n\r\nfirst" + end + evil + end)
    assert [(sender, recipients) for sender, recipients, _ in inbox.taken] == [(A, [B])]
    assert evil in inbox.taken[0][2]
    await client.aclose()


async def test_a_large_message_arrives(mail_server):
    inbox = Inbox()
    client = client_of(await mail_server(inbox), deadline=5.0)
    body = b"Subject: x\r\n\r\n" + (b"." * 70 + b"\r\n") * 40_000
    await send(client, message=body)
    assert inbox.taken[0][2] == body
    await client.aclose()


async def test_sessions_are_kept_between_messages(mail_server):
    inbox = Inbox()
    client = client_of(await mail_server(inbox))
    for _ in range(10):
        await send(client)
    assert (len(inbox.taken), inbox.sessions) == (10, 1)
    await client.aclose()


async def test_no_more_sessions_than_allowed_are_opened(mail_server):
    inbox = Inbox()
    client = client_of(await mail_server(inbox), max_connections=3)
    await asyncio.gather(*(send(client) for _ in range(30)))
    assert (len(inbox.taken), inbox.sessions) == (30, 3)
    await client.aclose()


async def test_a_session_left_idle_is_closed(mail_server):
    inbox = Inbox()
    client = client_of(await mail_server(inbox), max_idle=0.05)
    await send(client)
    await asyncio.sleep(0.2)
    assert not client._idle
    await send(client)
    assert inbox.sessions == 2
    await client.aclose()


async def test_a_session_that_stopped_answering_is_replaced(mail_server):
    inbox = Inbox()
    client = client_of(await mail_server(inbox), noop_after=0.0)
    await send(client)
    client._idle[0].abort()
    await send(client)
    assert (len(inbox.taken), inbox.sessions) == (2, 2)
    await client.aclose()


STAGES = [
    ({"mail": "451 busy"}, Deferred),
    ({"mail": "550 no"}, Refused),
    ({"rcpt": "450 greylisted"}, Deferred),
    ({"rcpt": "550 unknown"}, Refused),
    ({"data": "452 full"}, Deferred),
    ({"data": "554 spam"}, Refused),
    ({"data": "299 what"}, None),
    ({"data": "354 go on"}, Ambiguous),
    ({"data": "drop"}, Ambiguous),
    ({"data": "hang"}, Ambiguous),
    ({"data": "gibberish"}, Ambiguous),
    ({"data": "421 closing"}, Deferred),
]


@pytest.mark.parametrize(("answers", "outcome"), STAGES)
async def test_each_answer_has_its_outcome(mail_server, answers, outcome):
    inbox = Inbox(**answers)
    client = client_of(await mail_server(inbox), deadline=0.6)
    if outcome is None:
        await send(client)
    else:
        with pytest.raises(outcome) as caught:
            await send(client)
        assert caught.value.ambiguous == (outcome is Ambiguous)
        assert inbox.taken == []
    inbox.answers = {}
    await send(client)  # whatever happened before, the next message goes through
    assert len(inbox.taken) >= 1
    await client.aclose()


async def test_a_refused_message_leaves_the_session_usable(mail_server):
    inbox = Inbox(**{C: "550 unknown"})
    client = client_of(await mail_server(inbox))
    with pytest.raises(Refused, match="550 unknown"):
        await send(client, (C,))
    await send(client)
    assert inbox.sessions == 1
    await client.aclose()


async def test_who_is_refused_for_good_is_named_and_the_others_get_it(mail_server):
    inbox = Inbox(**{C: "550 unknown"})
    client = client_of(await mail_server(inbox))
    receipt = await send(client, (B, C))
    assert receipt.refused == {C: "550 unknown"}
    assert inbox.taken[0][1] == [B]
    await client.aclose()


async def test_one_deferred_recipient_defers_the_message_for_all(mail_server):
    inbox = Inbox(**{C: "450 later"})
    client = client_of(await mail_server(inbox))
    with pytest.raises(Deferred, match="450 later"):
        await send(client, (B, C))
    assert inbox.taken == []
    await client.aclose()


async def test_a_message_over_the_servers_limit_is_refused_before_it_is_sent(mail_server):
    inbox = Inbox()
    client = client_of(await mail_server(inbox, data_size_limit=1000))
    with pytest.raises(Refused, match="1000 bytes"):
        await send(client, message=b"Subject: x\r\n\r\n" + b"a" * 1001)
    await send(client)
    assert inbox.sessions == 1
    await client.aclose()


async def test_a_refused_connection_is_deferred():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = client_of(unused.getsockname()[1])
        with pytest.raises(Deferred):
            await send(client)


async def test_cancelling_a_send_gives_the_slot_back(mail_server):
    inbox = Inbox(data="hang")
    client = client_of(await mail_server(inbox), max_connections=1, deadline=5.0)
    task = asyncio.create_task(send(client))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    inbox.answers = {}
    await send(client)
    assert inbox.sessions == 2
    await client.aclose()


async def test_waiting_for_a_busy_pool_ends(mail_server):
    client = client_of(await mail_server(Inbox()), max_connections=1, connect_deadline=0.4)
    async with client.connection():
        with pytest.raises(Deferred, match="busy"):
            await send(client)
    await client.aclose()


# Where it may connect, and as whom


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "[::1]", "0x7f.1"])
def test_a_tenants_mail_server_is_never_a_private_host(host):
    with pytest.raises(BlockedDestination):
        SMTPClient(host, 587)


async def test_a_tenants_mail_server_never_resolves_to_a_private_host():
    async def resolver(host):
        return ["127.0.0.1"]

    client = SMTPClient("smtp.example.com", 587, resolver=resolver)
    with pytest.raises(BlockedDestination):
        await send(client)


def test_a_tenants_password_never_travels_in_clear():
    with pytest.raises(ValueError, match="in clear"):
        SMTPClient("smtp.example.com", 587, "user", "secret", tls=TLS.NONE)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "b",
        "b@example.com>",
        "b@example.com\r\nRCPT TO:<c@example.com>",
        "b b@example.com",
        "ü@example.com",
    ],
)
async def test_what_is_no_address_never_enters_the_envelope(mail_server, address):
    inbox = Inbox()
    client = client_of(await mail_server(inbox))
    if address:
        with pytest.raises(Refused):
            await send(client, (address,))
    with pytest.raises(Refused):
        await send(client, ())
    assert inbox.taken == []
    await client.aclose()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def contexts(authority) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def authenticator(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"user", b"right"), handled=False)


async def test_starttls_protects_the_login(mail_server, contexts):
    inbox = Inbox()
    port = await mail_server(
        inbox, tls_context=contexts[0], require_starttls=True, authenticator=authenticator
    )
    client = client_of(port, username="user", password="right", tls=TLS.STARTTLS, context=contexts[1])
    await send(client)
    await send(client, message=b"Subject: x\r\n\r\n" + b"a\r\n" * 300_000)
    assert (len(inbox.taken), inbox.sessions) == (2, 1)
    await client.aclose()


async def test_implicit_tls_sends(mail_server, contexts):
    inbox = Inbox()
    client = client_of(await mail_server(inbox, implicit=contexts[0]), tls=TLS.IMPLICIT, context=contexts[1])
    await send(client)
    assert len(inbox.taken) == 1
    await client.aclose()


async def test_a_wrong_password_is_refused(mail_server, contexts):
    port = await mail_server(Inbox(), tls_context=contexts[0], authenticator=authenticator)
    client = client_of(port, username="user", password="wrong", tls=TLS.STARTTLS, context=contexts[1])
    with pytest.raises(Refused, match="535"):
        await send(client)


async def test_without_starttls_nothing_is_sent(mail_server, contexts):
    inbox = Inbox()
    client = client_of(await mail_server(inbox), tls=TLS.STARTTLS, context=contexts[1])
    with pytest.raises(Refused, match="STARTTLS"):
        await send(client)
    assert inbox.taken == []


async def test_an_unknown_authority_is_not_trusted(mail_server, contexts):
    inbox = Inbox()
    for tls, options in (
        (TLS.STARTTLS, {"tls_context": contexts[0]}),
        (TLS.IMPLICIT, {"implicit": contexts[0]}),
    ):
        client = client_of(await mail_server(inbox, **options), tls=tls)
        with pytest.raises(Deferred):
            await send(client)
    assert inbox.taken == []
