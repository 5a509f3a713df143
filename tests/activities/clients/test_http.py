"""The guarded HTTP client against targets that misbehave, on loopback."""

import asyncio
import gzip
import itertools
import os
import re
import socket
import ssl
import struct
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trustme
from httpcore._synchronization import current_async_library

from activities.clients import dialling, http
from activities.clients.addresses import DEVELOPMENT, PRODUCTION, Destination

pytestmark = pytest.mark.anyio

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PUBLIC = "93.184.216.34"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SHORT = 0.3
HTTP_AS_PRODUCTION = Destination(schemes=frozenset({"http"}), ports=None)


async def request_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return head, await reader.readexactly(int(length[1]) if length else 0)


def answering(data: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            writer.write(data)
            await writer.drain()

    return handler


@pytest.fixture
async def client():
    client = http.Client(DEVELOPMENT)
    yield client
    await client.aclose()


async def test_a_reply_carries_status_headers_and_body(serve, client):
    seen = []

    async def handler(reader, writer):
        seen.append(await request_of(reader))
        writer.write(b"HTTP/1.1 201 Made\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 4\r\n\r\nmade")
        await writer.drain()

    port = await serve(handler)
    reply = await client.send(
        "POST", f"http://127.0.0.1:{port}/p?q=1", {"content-type": "text/plain"}, b"body"
    )
    assert (reply.status, reply.body, reply.truncated) == (201, b"made", False)
    assert reply.headers["x-a"] == "1, 2"
    assert 0 <= reply.duration_ms < 5000
    head, body = seen[0]
    assert head.startswith(b"POST /p?q=1 HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{port}\r\n".encode() in head.lower()
    assert b"accept-encoding: identity\r\n" in head.lower()
    assert body == b"body"


async def test_connections_are_kept(serve, client):
    accepted = []

    async def handler(reader, writer):
        accepted.append(writer)
        await answering(OK)(reader, writer)

    port = await serve(handler)
    for _ in range(20):
        await client.send("POST", f"http://127.0.0.1:{port}/", body=b"x")
    assert len(accepted) == 1


async def test_a_connection_the_server_closed_is_not_used_again(serve, client):
    async def once(reader, writer):
        await request_of(reader)
        writer.write(OK)
        await writer.drain()

    port = await serve(once)
    for _ in range(5):
        assert (await client.send("GET", f"http://127.0.0.1:{port}/")).status == 200
        await asyncio.sleep(0.02)


async def never_answering(reader, writer):
    await asyncio.sleep(60)


async def dripping_head(reader, writer):
    for byte in itertools.cycle(b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 500):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def dripping_body(reader, writer):
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.02)


async def slow_1xx(reader, writer):
    await request_of(reader)
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless_body(reader, writer):
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"a" * 65536)
        await writer.drain()


@pytest.mark.parametrize("handler", [never_answering, dripping_head, dripping_body, slow_1xx])
async def test_a_slow_target_ends_by_the_deadline_and_frees_its_slot(serve, handler):
    client = http.Client(DEVELOPMENT, max_connections=1)
    port, good = await serve(handler), await serve(answering(OK))
    started = time.monotonic()
    with pytest.raises(http.DeadlineExceeded) as caught:
        await client.send("POST", f"http://127.0.0.1:{port}/", body=b"x", deadline=SHORT)
    assert time.monotonic() - started < SHORT + 0.5
    assert caught.value.ambiguous
    assert (await client.send("GET", f"http://127.0.0.1:{good}/", deadline=2.0)).status == 200
    await client.aclose()


async def test_a_target_that_never_accepts_ends_by_the_deadline(client):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:  # the kernel accepts as many as the backlog holds, and drops the rest
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        with pytest.raises(http.DeadlineExceeded) as caught:
            await client.send("GET", f"http://127.0.0.1:{port}/", deadline=SHORT)
        assert not caught.value.ambiguous
        for filler in fillers:
            filler.close()


async def test_a_target_that_never_reads_ends_by_the_deadline(serve, client):
    port = await serve(never_answering, limit=1)
    with pytest.raises(http.DeadlineExceeded) as caught:
        await client.send("POST", f"http://127.0.0.1:{port}/", body=b"x" * 30_000_000, deadline=SHORT)
    assert caught.value.ambiguous


async def test_a_name_that_never_resolves_ends_by_the_deadline():
    async def resolver(host):
        await asyncio.sleep(60)
        return []

    client = http.Client(DEVELOPMENT, resolver)
    with pytest.raises(http.DeadlineExceeded) as caught:
        await client.send("GET", "http://slow.example/", deadline=SHORT)
    assert not caught.value.ambiguous
    await client.aclose()


async def test_a_handshake_that_never_ends_ends_by_the_deadline(serve, client):
    port = await serve(never_answering)
    with pytest.raises(http.DeadlineExceeded) as caught:
        await client.send("GET", f"https://127.0.0.1:{port}/", deadline=SHORT)
    assert not caught.value.ambiguous


async def test_a_flood_of_1xx_is_cut_off(serve, client):
    async def flood(reader, writer):
        await request_of(reader)
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)
            await writer.drain()

    port = await serve(flood)
    with pytest.raises(http.Unreachable) as caught:
        await client.send("POST", f"http://127.0.0.1:{port}/", deadline=5.0)
    assert caught.value.ambiguous


async def test_a_reset_before_the_answer_leaves_the_outcome_open(serve, client):
    async def reset(reader, writer):
        await request_of(reader)
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    port = await serve(reset)
    with pytest.raises(http.Unreachable) as caught:
        await client.send("POST", f"http://127.0.0.1:{port}/", body=b"x", deadline=2.0)
    assert caught.value.ambiguous


async def test_a_refused_connection_has_certainly_sent_nothing(client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(http.Unreachable) as caught:
            await client.send("POST", f"http://127.0.0.1:{unused.getsockname()[1]}/", body=b"x")
    assert not caught.value.ambiguous


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", b"\x00" * 200, b""]
)
async def test_what_is_not_http_is_unreachable(serve, client, garbage):
    async def handler(reader, writer):
        await request_of(reader)
        writer.write(garbage)
        await writer.drain()

    port = await serve(handler)
    with pytest.raises(http.Unreachable):
        await client.send("GET", f"http://127.0.0.1:{port}/", deadline=2.0)


async def test_an_endless_body_is_cut_at_the_limit(serve, client):
    port = await serve(endless_body)
    reply = await client.send("GET", f"http://127.0.0.1:{port}/", deadline=5.0)
    assert (len(reply.body), reply.truncated) == (16384, True)


async def test_a_gzip_bomb_stays_packed(serve, client):
    bomb = gzip.compress(b"0" * 200_000_000, compresslevel=1)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    port = await serve(answering(head + bomb))
    tracemalloc.start()
    reply = await client.send("GET", f"http://127.0.0.1:{port}/", deadline=5.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reply.body == bomb[:16384]
    assert peak < 5_000_000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(serve, client, status):
    followed = []

    async def canary(reader, writer):
        followed.append(1)

    goal = await serve(canary)
    location = f"HTTP/1.1 {status} Moved\r\nlocation: http://127.0.0.1:{goal}/\r\ncontent-length: 0\r\n\r\n"
    port = await serve(answering(location.encode()))
    assert (await client.send("POST", f"http://127.0.0.1:{port}/")).status == status
    assert not followed


async def test_proxy_variables_are_ignored(serve, monkeypatch):
    proxied = []

    async def proxy(reader, writer):
        proxied.append(1)

    proxy_port = await serve(proxy)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setitem(os.environ, name, f"http://127.0.0.1:{proxy_port}")
    monkeypatch.setitem(os.environ, "NO_PROXY", "nothing.example")
    client = http.Client(DEVELOPMENT)
    port = await serve(answering(OK))
    assert (await client.send("GET", f"http://127.0.0.1:{port}/")).status == 200
    assert not proxied
    await client.aclose()


async def test_cookies_are_not_kept(serve, client):
    heads = []

    async def handler(reader, writer):
        while True:
            heads.append((await request_of(reader))[0])
            writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n")

    port = await serve(handler)
    for _ in range(2):
        await client.send("GET", f"http://127.0.0.1:{port}/")
    assert b"cookie" not in heads[1].lower()


# Rebinding: answers alternate between a public address and loopback.


def patterns() -> Iterator[tuple[str, ...]]:
    for length in range(1, 7):
        yield from itertools.product((PUBLIC, "127.0.0.1"), repeat=length)


async def test_no_pattern_of_rebinding_reaches_loopback(serve):
    """S3: a canary on loopback sees no connection, whatever a name resolves to next."""
    connections, dialled = [], []

    async def canary(reader, writer):
        connections.append(1)

    port = await serve(canary)
    public = await serve(answering(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"))

    async def connector(address, port):
        dialled.append(address)
        return await dialling.connect(
            "127.0.0.1" if address == PUBLIC else address, public if address == PUBLIC else port
        )

    outcomes = []
    for pattern in patterns():
        answers = itertools.cycle(pattern)

        async def resolver(host, answers=answers):
            return [next(answers)]

        client = http.Client(HTTP_AS_PRODUCTION, resolver, connector=connector)
        for expected in itertools.islice(itertools.cycle(pattern), 8):
            try:
                await client.send("POST", f"http://rebind.example:{port}/", deadline=2.0)
                outcomes.append(expected == PUBLIC)
            except http.BlockedDestination:
                outcomes.append(expected != PUBLIC)
        await client.aclose()
    assert len(outcomes) >= 1000
    assert all(outcomes)
    assert connections == []
    assert set(dialled) == {PUBLIC}


@pytest.mark.parametrize(
    "answers",
    [
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        ["2606:4700:4700::1111", "::1"],
        [PUBLIC, "::ffff:127.0.0.1"],
        [PUBLIC, "fe80::1%eth0"],
        [PUBLIC, "nonsense"],
        ["169.254.169.254"],
    ],
)
async def test_one_private_answer_blocks_the_whole_name(answers):
    async def resolver(host):
        return answers

    async def connector(address, port):
        raise AssertionError("dialled")

    client = http.Client(PRODUCTION, resolver, connector=connector)
    with pytest.raises(http.BlockedDestination):
        await client.send("POST", "https://mixed.example/")
    with pytest.raises(http.BlockedDestination):
        await client.check("https://mixed.example/")
    await client.aclose()


async def test_a_dead_address_gives_way_to_the_next(serve):
    port = await serve(answering(OK))

    async def resolver(host):
        return ["127.0.0.2", "127.0.0.1"]

    client = http.Client(DEVELOPMENT, resolver)
    assert (await client.send("GET", f"http://two.example:{port}/")).status == 200
    await client.aclose()


async def test_a_name_that_does_not_resolve_may_be_saved_but_not_reached():
    client = http.Client(DEVELOPMENT)
    assert (await client.check("http://nowhere.invalid/x")).url == "http://nowhere.invalid/x"
    with pytest.raises(http.Unreachable) as caught:
        await client.send("GET", "http://nowhere.invalid/x", deadline=5.0)
    assert not caught.value.ambiguous
    await client.aclose()


# TLS: the vetted address is dialled, the name is asked for and checked.


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_tls_asks_for_the_name_and_checks_it(serve, authority):
    context, names = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    authority.issue_cert("hook.example").configure_cert(context)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    port = await serve(answering(OK), ssl=context)

    async def resolver(host):
        return ["127.0.0.1"]

    client = http.Client(DEVELOPMENT, resolver, tls=trusting(authority))
    for _ in range(2):
        assert (await client.send("POST", f"https://hook.example:{port}/", body=b"x" * 100_000)).body == b"ok"
    assert names == ["hook.example"]
    with pytest.raises(http.Unreachable) as caught:
        await client.send("POST", f"https://other.example:{port}/")
    assert not caught.value.ambiguous
    await client.aclose()


async def test_an_unknown_authority_is_refused(serve, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    port = await serve(answering(OK), ssl=context)
    client = http.Client(DEVELOPMENT)
    with pytest.raises(http.Unreachable):
        await client.send("POST", f"https://127.0.0.1:{port}/")
    await client.aclose()


async def test_what_httpcore_asks_for_at_each_request_is_not_searched_for_each_time():
    assert current_async_library() == "asyncio"
    # A failed import alone leaves no trace, and is tried again.
    assert "sniffio" in sys.modules
