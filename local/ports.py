"""Ports on the loopback: free ones are chosen, taken ones are explained."""

import random
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

HOST = "127.0.0.1"
# Below the ports that systems hand to outgoing connections: a child that restarts finds its port free.
POOL = range(20_000, 32_000)


class PortTakenError(Exception):
    """Another process listens on a port that FlowTrack was to use."""


def choose(wanted: Mapping[str, int]) -> dict[str, int]:
    """Check the ports by the flag that sets each; 0 becomes a free one, and no two are the same."""
    with ExitStack() as held:
        return {flag: _hold(held, flag, port) for flag, port in wanted.items()}


def free() -> int:
    """Choose one free port."""
    return choose({"": 0})[""]


def _hold(held: ExitStack, flag: str, port: int) -> int:
    if port == 0:
        return _any(held)
    if not _bind(held, port):
        raise PortTakenError(_explain(flag, port))
    return port


def _any(held: ExitStack) -> int:
    for port in random.sample(POOL, 200):
        if _bind(held, port):
            return port
    raise PortTakenError(f"No free port found between {POOL.start} and {POOL.stop}.")


def _bind(held: ExitStack, port: int) -> bool:
    listener = socket.socket()
    # What servers do too: a port whose last connections are only fading away counts as free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        # Some systems let two sockets bind with that option and refuse the second listener only.
        listener.listen(1)
    except PermissionError as failure:
        listener.close()
        raise PortTakenError(f"Port {port} may not be used by this account: {failure.strerror}.") from failure
    except OSError:
        listener.close()
        return False
    held.callback(listener.close)
    return True


def _explain(flag: str, port: int) -> str:
    holder = holder_of(port)
    who = f"held by {holder}" if holder else "held by another process, perhaps one of another user"
    return (
        f"Port {port} is taken: {who}. "
        f"Stop it, or choose another port with {flag} N ({flag} 0 takes any free one)."
    )


def holder_of(port: int) -> str | None:
    """Name the process that listens on the port, where the system lets us see it."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(link.readlink().name in inodes for link in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return None


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
            # Columns: 1 is the local address as HEX:PORT, 3 the state (0A listens), 9 the socket's inode.
            listening = [row for row in rows if row[3] == "0A" and int(row[1].rsplit(":", 1)[1], 16) == port]
            found |= {f"socket:[{row[9]}]" for row in listening}
    return found
