"""The HTTP server in front of the app: uvicorn with limits on what a connection may send and how slowly."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LARGEST_HEAD = 16 * 1024
KEEP_ALIVE_SECONDS = 15
# Answers that are under way when the server is to stop have this long, then it goes.
GOODBYE_SECONDS = 5


class HeadTooLarge(ValueError):
    """The request's line and headers are more than anybody needs."""


class DeadlineProtocol(HttpToolsProtocol):
    """HTTP/1.1 that gives a client ten seconds to send a whole request, and its head a limit.

    uvicorn itself waits for ever for a request that trickles in, or never does, and takes a head of any size.
    """

    seconds = 10.0
    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _head = 0
    """Bytes received since a head began that has not ended."""
    _lines = 0
    """Bytes of its line and headers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Begin to count with the connection."""
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Count from a request's first byte until its last."""
        self._arm()
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        # What the parser holds back of a line that does not end was counted by no callback.
        if self._in_head and self._head > LARGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("Request head too large.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline with the connection."""
        self._disarm()
        super().connection_lost(exc)

    # ── what the parser tells

    def on_message_begin(self) -> None:
        """Begin to count a head, and the time of a request that came along with the one before."""
        super().on_message_begin()
        self._arm()
        self._in_head, self._lines = True, 0

    def on_url(self, url: bytes) -> None:
        """Count."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count."""
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop counting the head."""
        self._in_head, self._head = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop counting the time."""
        self._disarm()
        self._in_head = True
        super().on_message_complete()

    def _count(self, *parts: bytes) -> None:
        self._lines += sum(map(len, parts))
        if self._lines > LARGEST_HEAD:
            raise HeadTooLarge

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn that ends by returning: it would raise the signal again, and skip whatever closes after it."""

    def __init__(self, config: uvicorn.Config, *, on_exit: Callable[[], None] = lambda: None) -> None:
        """Prepare; `on_exit` ends what would otherwise be waited for."""
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        self._on_exit()
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def serve(app: ASGIApp, *, host: str, port: int, on_exit: Callable[[], None] = lambda: None) -> None:
    """Serve the app until SIGTERM or SIGINT; `on_exit` is called then, and ends the event streams."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=DeadlineProtocol,
        ws="none",
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
        server_header=False,
        # The app writes one line for each request itself, with its ids.
        access_log=False,
        log_config=None,
    )
    await Server(config, on_exit=on_exit).serve()
