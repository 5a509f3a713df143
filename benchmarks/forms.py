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
from intake import cpu_of, start, wait_for

from local import demo, ports

SECONDS, CLIENTS = 10, 32


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
    command = [sys.executable, __file__, "load", card["form_url"], str(seconds), str(clients)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    found |= {name: (cpu_of(pid) - before[name]) * 1000 / found["accepted"] for name, pid in pids.items()}
    if found["refused"]:
        print(f"{len(found['refused'])} refused, e.g. {found['refused'][0]}")
    return found


def settle(card: dict[str, Any]) -> tuple[int, float]:
    """Wait until every run has ended; return how many there were, and how long that took."""
    began = time.perf_counter()
    with psycopg.connect(card["database_url"], autocommit=True) as connection:
        query = "SELECT count(*), count(*) FILTER (WHERE status = 'completed') FROM workflow_executions"
        while True:
            row = connection.execute(query).fetchone() or (0, 0)
            if row[0] == row[1]:
                return row[0], time.perf_counter() - began
            time.sleep(0.5)


def main(seconds: float, clients: int) -> None:
    """Measure with Temporal up and down, and print the table."""
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="flowtrack-bench-") as directory:
        up = start(Path(directory), ports.free())
        try:
            card = wait_for(Path(directory) / "up.json", up)
            burst(card, 1, 2)
            settle(card)
            rows["up, one client"] = burst(card, seconds / 2, 1)
            settle(card)
            rows["up"] = burst(card, seconds, clients)
            runs, drained = settle(card)
            os.kill(card["pids"]["temporal"], signal.SIGSTOP)
            time.sleep(1)
            rows["down"] = burst(card, seconds, clients)
            os.kill(card["pids"]["temporal"], signal.SIGCONT)
            runs, caught_up = settle(card)
        finally:
            up.terminate()
            up.wait(60)
    print(
        f"{seconds:.0f} s each, {clients} clients, {os.cpu_count()} cores; CPU in ms for each form accepted"
    )
    print("| Temporal | accepted/s | p50 ms | p95 ms | max ms | API | PostgreSQL | Temporal | worker |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        told = [f"{row['rate']:.0f}", *(f"{row[key]:.0f}" for key in ("p50", "p95", "max"))]
        told += [f"{row[key]:.1f}" for key in ("api", "postgres", "temporal", "worker")]
        print(f"| {name} | {' | '.join(told)} |")
    print(f"{runs} runs in all; {drained:.0f} s and {caught_up:.0f} s until the last had ended")


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        print(json.dumps(asyncio.run(load(sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))))
    else:
        given = [float(word) for word in sys.argv[1:]]
        seconds, clients = (*given, *(SECONDS, CLIENTS)[len(given) :])
        main(seconds, int(clients))
