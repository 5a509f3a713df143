"""The HTTP server: what is slow or too big is dropped, what is in order is served."""

import asyncio

import pytest
import uvicorn

from api.server import LARGEST_HEAD, DeadlineProtocol

pytestmark = pytest.mark.anyio

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


class ImpatientProtocol(DeadlineProtocol):
    seconds = 0.3


async def echo(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await asyncio.sleep(0.6 if body == b"later" else 0)
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port():
    config = uvicorn.Config(
        echo,
        port=0,
        http=ImpatientProtocol,
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield server.servers[0].sockets[0].getsockname()[1]
    await server.shutdown()


async def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send the parts and return all that comes back until the server closes, or a second has passed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(1):
            while received := await reader.read(65536):
                answer += received
    except TimeoutError:
        answer += b"[open]"
    except ConnectionResetError:
        pass
    writer.close()
    return answer


async def test_a_whole_request_is_answered_and_its_connection_kept(port):
    answer = await talk(port, REQUEST, b"hello")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"hello[open]")


async def test_an_answer_may_take_longer_than_a_request(port):
    assert (await talk(port, REQUEST + b"later")).endswith(b"later[open]")


async def test_a_connection_that_says_nothing_is_closed(port):
    assert await talk(port) == b""


async def test_a_head_that_trickles_in_is_cut_off(port):
    trickle = [bytes([letter]) for letter in REQUEST]
    assert await talk(port, *trickle[:10], pause=0.05) == b""


async def test_a_body_that_trickles_in_is_cut_off(port):
    assert await talk(port, REQUEST, b"h", b"e", b"l", pause=0.15) == b""


async def test_a_second_request_that_trickles_in_is_cut_off_too(port):
    answer = await talk(port, REQUEST + b"hello", b"POST / HT", pause=0.1)
    assert answer.endswith(b"hello")


async def test_a_head_that_is_too_big_is_refused(port):
    for end in (b"", b"\r\n\r\n"):
        answer = await talk(port, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 2 * LARGEST_HEAD + end)
        assert answer.startswith(b"HTTP/1.1 400")


async def test_many_requests_on_one_connection_are_not_taken_for_one_head(port):
    answer = await talk(port, *[REQUEST + b"h" * 5] * 200)
    assert answer.count(b"HTTP/1.1 200") == 200


async def test_requests_sent_at_once_are_answered_one_by_one(port):
    assert (await talk(port, (REQUEST + b"hello") * 3)).count(b"hello") == 3
