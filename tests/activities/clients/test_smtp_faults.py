"""Mail servers that break off at an exact point: was the message sent, not sent, or is it unknown?"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from activities.clients import smtp
from activities.clients.addresses import MAIL_OPERATOR
from activities.clients.smtp import TLS, Ambiguous, Deferred, Refused, SMTPClient

pytestmark = pytest.mark.anyio


def client_of(port: int, *, deadline: float = 1.0) -> SMTPClient:
    return SMTPClient(
        "127.0.0.1", port, tls=TLS.NONE, policy=MAIL_OPERATOR, deadline=deadline, connect_deadline=deadline
    )


async def send(client: SMTPClient, message: bytes = b"Subject: x\r\n\r\nx\r\n") -> smtp.Receipt:
    async with client.connection() as connection:
        return await connection.send(message, "a@example.com", ["b@example.com"])


def scripted(*steps: bytes | None, drop_in_body: bool = False) -> Callable[..., Awaitable[None]]:
    """Answer each command with the next step; None hangs, the end of the script drops the connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        in_body = False
        for step in steps:
            if step is None:
                await asyncio.sleep(60)
                continue
            writer.write(step)
            await writer.drain()
            in_body = step.startswith(b"354")
            if in_body and drop_in_body:
                await reader.readexactly(10)
                return
            await (reader.readuntil(b"\r\n.\r\n") if in_body else reader.readline())

    return handler


HELLO = (b"220 hi\r\n", b"250 test\r\n")


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ((), Deferred),
        ((None,), Deferred),
        ((b"220",), Deferred),
        ((b"421 busy\r\n",), Deferred),
        ((b"554 go away\r\n",), Refused),
        ((b"HTTP/1.1 400 Bad Request\r\n",), Deferred),
        ((b"220 hi\r\n",), Deferred),
        ((b"220 hi\r\n", None), Deferred),
        (HELLO, Deferred),
        ((*HELLO, None), Deferred),
        ((*HELLO, b"250 ok\r\n"), Deferred),
        ((*HELLO, b"250 ok\r\n", None), Deferred),
        ((*HELLO, b"250 ok\r\n", b"250 ok\r\n"), Deferred),
        ((*HELLO, b"250 ok\r\n", b"250 ok\r\n", None), Deferred),
        ((*HELLO, b"250 ok\r\n", b"250 ok\r\n", b"451 no\r\n"), Deferred),
        ((*HELLO, b"250 ok\r\n", b"250 ok\r\n", b"554 no\r\n"), Refused),
        ((*HELLO, b"250 ok\r\n", b"250 ok\r\n", b"250 what\r\n"), Deferred),
        ((*HELLO, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"), Ambiguous),
        ((*HELLO, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", None), Ambiguous),
        ((*HELLO, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"25"), Ambiguous),
    ],
)
async def test_a_connection_lost_at_any_point_has_its_outcome(serve, steps, outcome):
    client = client_of(await serve(scripted(*steps)), deadline=0.6)
    with pytest.raises(outcome):
        await send(client)
    await client.aclose()


async def test_a_connection_lost_within_the_body_has_certainly_sent_nothing(serve):
    steps = (*HELLO, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
    client = client_of(await serve(scripted(*steps, drop_in_body=True)), deadline=2.0)
    with pytest.raises(Deferred):
        await send(client, message=b"a" * 50_000_000)
    await client.aclose()


async def test_a_server_that_stops_reading_the_body_has_certainly_got_no_message(serve):
    async def handler(reader, writer):
        await scripted(*HELLO, b"250 ok\r\n", b"250 ok\r\n")(reader, writer)
        writer.write(b"354 go\r\n")
        await asyncio.sleep(60)

    client = client_of(await serve(handler), deadline=0.5)
    with pytest.raises(Deferred):
        await send(client, message=b"a" * 50_000_000)
    await client.aclose()


async def test_a_session_dropped_while_idle_is_opened_again_for_the_message(serve):
    steps = (*HELLO, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 taken\r\n", b"421 idle too long\r\n")
    sessions = []

    async def handler(reader, writer):
        sessions.append(1)
        await scripted(*steps)(reader, writer)

    client = client_of(await serve(handler))
    assert (await send(client)).reply == "taken"
    assert (await send(client)).reply == "taken"
    assert len(sessions) == 2
    await client.aclose()
