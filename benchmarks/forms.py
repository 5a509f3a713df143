"""Form posts accepted: 32 clients in a process of their own, with Temporal up (and its runs going) and down.

    python benchmarks/forms.py [seconds] [clients]

"Down" is the meaner kind: the server is frozen (SIGSTOP), so that calls to it hang instead of being refused.
CPU is that of the processes themselves, for the machine is rarely one's own.
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from shapes.machine import Process, cpu_of

from local import demo, ports

SECONDS, CLIENTS = 10, 32
PORTS = ("--api-port", "--temporal-port", "--temporal-ui-port", "--mail-port")


class Client(asyncio.Protocol):
    """One connection that posts a form, waits for the answer and posts the next."""

    def __init__(self, url: str, until: float) -> None:
        parts = urlsplit(url)
        self._head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        )
        self._until = until
        self._name, self._number = uuid.uuid4().hex[:12], 0
        self._answer = b""
        self.done = asyncio.get_running_loop().create_future()
        self.seconds: list[float] = []
        self.refused: list[str] = []

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._post()

    def data_received(self, data: bytes) -> None:
        """Note how long a whole answer took."""
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not end or len(body) < int(length):
            return
        self.seconds.append(time.perf_counter() - self._began)
        if not head.startswith(b"HTTP/1.1 202"):
            self.refused.append(f"{head[:16]!r} {body[:300]!r}")
        if time.perf_counter() < self._until:
            self._post()
            return
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        if not self.done.done():
            self.done.set_result(None)

    def _post(self) -> None:
        self._number += 1
        self._answer = b""
        answers = {**demo.ANSWERS, "email": f"{self._name}-{self._number}@example.com"}
        body = json.dumps(answers).encode()
        self._began = time.perf_counter()
        self._transport.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


async def load(url: str, seconds: float, clients: int) -> dict[str, Any]:
    """Post from many connections for a while."""
    parts, began = urlsplit(url), time.perf_counter()
    running = [Client(url, began + seconds) for _ in range(clients)]
    loop = asyncio.get_running_loop()
    for client in running:
        await loop.create_connection(lambda client=client: client, parts.hostname, parts.port)
    await asyncio.gather(*(client.done for client in running))
    took = [one for client in running for one in client.seconds]
    cuts = statistics.quantiles(took, n=100)
    return {
        "accepted": len(took) - sum(len(client.refused) for client in running),
        "refused": [told for client in running for told in client.refused],
        "rate": len(took) / (time.perf_counter() - began),
        "p50": cuts[49] * 1000,
        "p95": cuts[94] * 1000,
        "max": max(took) * 1000,
        "client_cpu": time.process_time(),
    }


def burst(card: dict[str, Any], seconds: float, clients: int) -> dict[str, Any]:
    """Have another process post; note what each of ours spent meanwhile."""
    pids = {name: card["pids"][name] for name in ("api", "worker", "temporal", "postgres")}
    before = {name: cpu_of(pid) for name, pid in pids.items()}
    runs, began = ended(card), time.perf_counter()
    command = [sys.executable, __file__, "load", card["form_url"], str(seconds), str(clients)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    found |= {name: (cpu_of(pid) - before[name]) * 1000 / found["accepted"] for name, pid in pids.items()}
    found["ended"] = (ended(card) - runs) / (time.perf_counter() - began)
    if found["refused"]:
        print(f"{len(found['refused'])} refused, e.g. {found['refused'][0]}")
    return found


def ended(card: dict[str, Any]) -> int:
    """Count the runs that have ended."""
    with psycopg.connect(card["database_url"], autocommit=True) as connection:
        query = "SELECT count(*) FROM workflow_executions WHERE status = 'completed'"
        row = connection.execute(query).fetchone()
    return row[0] if row else 0


def start(directory: Path, smtp_port: int) -> Process:
    """Start FlowTrack on free ports."""
    free = [word for flag in PORTS for word in (flag, "0")]
    where = ["--data-dir", str(directory), "--smtp-port", str(smtp_port), *free]
    command = [sys.executable, "-m", "flowtrack", "up", "--no-demo", *where]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def wait_for(path: Path, up: Process) -> dict[str, Any]:
    """Wait until everything is up; return what up.json says."""
    while not path.exists():
        if up.poll() is not None:
            raise SystemExit("`flowtrack up` ended; see its logs")
        time.sleep(0.1)
    card: dict[str, Any] = json.loads(path.read_text())
    return card


def main(seconds: float, clients: int) -> None:
    """Measure with Temporal down, then up with what has piled up by then, and print the table."""
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="flowtrack-bench-") as directory:
        up = start(Path(directory), ports.free())
        try:
            card = wait_for(Path(directory) / "up.json", up)
            temporal = card["pids"]["temporal"]
            burst(card, 1, 2)
            time.sleep(3)
            rows["up, one client"] = burst(card, seconds / 2, 1)
            os.kill(temporal, signal.SIGSTOP)
            time.sleep(1)
            rows["down"] = burst(card, seconds, clients)
            os.kill(temporal, signal.SIGCONT)
            time.sleep(3)
            rows["up, runs going"] = burst(card, seconds, clients)
        finally:
            up.terminate()
            up.wait(60)
    show(rows, seconds, clients)


def show(rows: dict[str, dict[str, Any]], seconds: float, clients: int) -> None:
    """Print the table."""
    print(f"{seconds:.0f} s each, {clients} clients, {os.cpu_count()} cores; CPU in ms a form accepted")
    print("| Temporal | accepted/s | p50 ms | p95 ms | max ms | runs ended/s | API | PostgreSQL | others |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        told = [f"{row[key]:.0f}" for key in ("rate", "p50", "p95", "max", "ended")]
        cpu = (row["api"], row["postgres"], row["temporal"] + row["worker"])
        told += [f"{one:.1f}" for one in cpu]
        print(f"| {name} | {' | '.join(told)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        print(json.dumps(asyncio.run(load(sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))))
    else:
        given = [float(word) for word in sys.argv[1:]]
        seconds, clients = (*given, *(SECONDS, CLIENTS)[len(given) :])
        main(seconds, int(clients))
