"""A webhook target on loopback: keeps what arrives, answers as told."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One POST, byte for byte."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Target:
    """Answers 200, or what `answers` holds next."""

    requests: list[Request] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)
    held: asyncio.Event | None = None
    """No answer is given before it is set."""
    url: str = ""
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                await self._answer(head, reader, writer)
        writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(first.split(" ")[1], headers, body))
        if self.held is not None:
            await self.held.wait()
        status = self.answers.popleft() if self.answers else 200
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
