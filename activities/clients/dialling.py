"""Dialling a vetted address: the check happens on the address that is dialled, at every dial."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from ipaddress import ip_address

import certifi

from activities.clients.addresses import Address, BlockedDestination, Destination, Unreachable

Resolver = Callable[[str], Awaitable[Sequence[str]]]
Connector = Callable[[str, int], Awaitable[socket.socket]]

# One dead address of a name must not eat the time of the living ones.
PATIENCE = 3.0


class SystemResolver:
    """Ask the system for a name's addresses, on threads of its own."""

    # The loop's default executor has few threads: names that never answer would starve everything else.
    def __init__(self, threads: int = 16) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolver")

    async def __call__(self, host: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._threads, _ask, host)
        except (OSError, UnicodeError) as error:
            raise Unreachable("the name does not resolve") from error
        return list(dict.fromkeys(answers))


@cache
def system_resolver() -> SystemResolver:
    """Share one resolver, and its threads, among all clients of the process."""
    return SystemResolver()


def _ask(host: str) -> list[str]:
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


async def connect(address: str, port: int) -> socket.socket:
    """Open a connection to an address that has been vetted."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # The protocol is named because asyncio switches Nagle's delay off only where it sees TCP.
    connection = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


@cache
def tls_context() -> ssl.SSLContext:
    """Trust what the machine trusts, and Mozilla's list where an image has none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class Dialler:
    """Turn a host and port into a connected socket, if the policy admits every address behind it."""

    def __init__(
        self, policy: Destination, resolver: Resolver | None = None, connector: Connector | None = None
    ) -> None:
        self._policy = policy
        self._resolver = resolver or system_resolver()
        self._connector = connector or connect

    async def vet(self, host: str) -> list[Address]:
        """Resolve a host; one address that is not allowed blocks the whole name."""
        try:
            addresses = [ip_address(host)]
        except ValueError:
            addresses = _parsed(await self._resolver(host))
        if not addresses:
            raise Unreachable("the name does not resolve")
        if not all(self._policy.admits(address) for address in addresses):
            raise BlockedDestination("address not allowed")
        return addresses

    async def dial(self, host: str, port: int) -> socket.socket:
        """Connect to the first of the host's addresses that answers."""
        addresses = await self.vet(host)
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await self._connector(str(address), port)
            except OSError:  # TimeoutError is one
                continue
        try:
            return await self._connector(str(addresses[-1]), port)
        except OSError as error:
            raise Unreachable("no connection") from error


def _parsed(answers: Sequence[str]) -> list[Address]:
    try:
        return [ip_address(answer) for answer in answers]
    except ValueError as error:
        raise BlockedDestination("address not allowed") from error
