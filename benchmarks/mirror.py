"""The mirror on the whole house: how far rows are behind events, what that costs, and how fast it can go.

    python benchmarks/mirror.py [seconds] [runs a second] [runs in a burst]

First the intake workload at a steady rate. Lag is the time from an event, as history has it, to the moment
in which another connection sees its row; it is looked for every 20 ms. Reads are what Temporal's server
counts. Then a burst that stands ready while the worker is frozen: the API is frozen, too, and a mirror in a
process of its own does the work, so that its CPU is its own. Only ratios travel to another machine.
"""

import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
from shapes import machine
from shapes.machine import cpu_of

from local import demo, ports, temporal

SECONDS, RATE, BURST = 30, 10, 100
LOOK = 0.02
READS = (
    "GetWorkflowExecutionHistoryReverse",
    "GetWorkflowExecutionHistory",
    "DescribeWorkflowExecution",
    "ListWorkflowExecutions",
)
SERVED = re.compile(r"^service_requests\{(?P<labels>[^}]*)\} (?P<count>\S+)$", re.MULTILINE)
OPERATION = re.compile(r'operation="([^"]+)"')
ENDED = "SELECT count(*) FROM workflow_executions WHERE id = ANY(%s) AND finished_at IS NOT NULL"
DISPATCHED = "SELECT count(*) FROM workflow_executions WHERE id = ANY(%s) AND dispatched_at IS NOT NULL"
LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flowtrack mirror'"
ENDS = "SELECT id, finished_at, clock_timestamp() FROM workflow_executions WHERE finished_at > %s"
STEPS = "SELECT id, finished_at, clock_timestamp() FROM execution_steps WHERE finished_at > %s"
ROWS = (
    "SELECT (SELECT count(*) FROM execution_steps WHERE execution_id = ANY(%(ids)s))"
    " + (SELECT count(*) FROM execution_logs WHERE execution_id = ANY(%(ids)s) AND source = 'history')"
    " + cardinality(%(ids)s::uuid[])"
)
MOST = 0.25
"""The mirror's CPU to the worker's: what is demanded."""


@dataclass
class Lags:
    """How long rows were behind their events, in seconds."""

    since: datetime
    seen: dict[uuid.UUID, float] = field(default_factory=dict)

    async def look(self, connection: psycopg.AsyncConnection[Any], query: bytes) -> None:
        """Note what has become visible since the last look."""
        for key, happened, seen in await (await connection.execute(query, [self.since])).fetchall():
            self.seen.setdefault(key, (seen - happened).total_seconds())

    def show(self, name: str) -> None:
        """Print the middle and the tail."""
        p95 = statistics.quantiles(self.seen.values(), n=20)[-1] * 1000
        p50 = statistics.median(self.seen.values()) * 1000
        print(f"| lag of {name}, ms | {p50:.0f} | {p95:.0f} | {len(self.seen)} |")


async def main(seconds: int, rate: int, burst: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="flowtrack-bench-") as name:
        directory, port, metrics = Path(name), ports.free(), ports.free()
        own = temporal.command(
            port=port, ui_port=None, database=directory / "temporal.db", callbacks=[f"{ports.HOST}:*"]
        )
        server = machine.process([*own, "--metrics-port", str(metrics)])
        machine.wait_for(port)
        up, card = machine.flowtrack(directory, f"{ports.HOST}:{port}")
        try:
            bench = Bench(card, f"http://{ports.HOST}:{metrics}/metrics")
            await bench.connect()
            await bench.steadily(5, rate)
            print(f"{os.cpu_count()} cores, load {_load()}\n\n| steadily, {rate} runs/s | p50 | p95 | rows |")
            print("| --- | --- | --- | --- |")
            for what, lags in (await bench.lags(seconds, rate)).items():
                lags.show(what)
            print(f"\nreads a run: {bench.reads_a_run}")
            await bench.burst(burst)
        finally:
            for process in (up, server):
                process.terminate()
                process.wait(60)


class Bench:
    """Measures a running house."""

    def __init__(self, card: dict[str, Any], metrics: str) -> None:
        self.card, self.metrics = card, metrics
        self.pids: dict[str, int] = card["pids"]
        self.reads_a_run: dict[str, float] = {}

    async def connect(self) -> None:
        """Open a connection that stays."""
        url = self.card["database_url"]
        self.connection = await psycopg.AsyncConnection.connect(url, autocommit=True)

    async def steadily(self, seconds: int, rate: int) -> list[uuid.UUID]:
        """Submit forms at a steady rate and wait until their runs have ended."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            posts = []
            for _ in range(seconds * rate):
                posts.append(asyncio.create_task(self._post(client)))
                await asyncio.sleep(1 / rate)
            ids = await asyncio.gather(*posts)
        await self._until(ENDED, ids)
        return list(ids)

    async def lags(self, seconds: int, rate: int) -> dict[str, Lags]:
        """Submit steadily, and watch from beside when rows can be seen."""
        since = await self._read("SELECT clock_timestamp()")
        found = {"ends": Lags(since), "steps": Lags(since)}
        before = self._served()

        async def watch() -> None:
            url = self.card["database_url"]
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                while True:
                    await found["ends"].look(connection, ENDS.encode())
                    await found["steps"].look(connection, STEPS.encode())
                    await asyncio.sleep(LOOK)

        watcher = asyncio.create_task(watch())
        runs = len(await self.steadily(seconds, rate))
        await asyncio.sleep(1.5)
        watcher.cancel()
        after = self._served()
        self.reads_a_run = {name: round((after[name] - before[name]) / runs, 2) for name in READS}
        return found

    async def burst(self, count: int) -> None:
        """Have a mirror alone follow a worker at its full speed; print what each spent."""
        os.kill(self.pids["worker"], signal.SIGSTOP)
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            ids = [await self._post(client) for _ in range(count)]
        await self._until(DISPATCHED, ids)
        await asyncio.sleep(1)
        os.kill(self.pids["api"], signal.SIGSTOP)
        mirror = mirroring(self.pids["api"])
        try:
            while await self._read(LISTENERS) < 2:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)
            began, cpu = time.perf_counter(), {"mirror": cpu_of(mirror.pid), **self._cpu("worker")}
            os.kill(self.pids["worker"], signal.SIGCONT)
            await self._until(ENDED, ids)
            seconds = time.perf_counter() - began
            spent = {"mirror": cpu_of(mirror.pid), **self._cpu("worker")}
        finally:
            for name in ("worker", "api"):
                os.kill(self.pids[name], signal.SIGCONT)
            mirror.terminate()
            mirror.wait(30)
        rows = await self._read(ROWS, {"ids": ids})
        ours, theirs = (spent[name] - cpu[name] for name in ("mirror", "worker"))
        print(
            f"\nburst of {count}: {count / seconds:.1f} runs/s, {rows / seconds:.0f} rows/s, load {_load()}"
        )
        print(f"CPU ms a run: mirror {ours / count * 1000:.1f}, worker {theirs / count * 1000:.1f}")
        print(f"mirror to worker: {ours / theirs:.2f} (must: {MOST})")

    async def _post(self, client: httpx.AsyncClient) -> uuid.UUID:
        answers = {**demo.ANSWERS, "email": f"{uuid.uuid4().hex}@example.com"}
        answer = await client.post(self.card["form_url"], json=answers)
        while answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            await asyncio.sleep(0.2)
            answer = await client.post(self.card["form_url"], json=answers)
        return uuid.UUID(answer.raise_for_status().json()["execution_id"])

    async def _until(self, query: str, ids: list[uuid.UUID]) -> None:
        while await self._read(query, [list(ids)]) < len(ids):  # noqa: ASYNC110 - in other processes
            await asyncio.sleep(0.05)

    async def _read(self, query: str, values: Any = None) -> Any:
        row = await (await self.connection.execute(query.encode(), values)).fetchone()
        return row[0] if row else None

    def _cpu(self, name: str) -> dict[str, float]:
        return {name: cpu_of(self.pids[name])}

    def _served(self) -> dict[str, float]:
        with urllib.request.urlopen(self.metrics) as page:
            text = page.read().decode()
        counted = dict.fromkeys(READS, 0.0)
        for match in SERVED.finditer(text):
            operation = OPERATION.search(match["labels"])
            if operation and operation[1] in counted and 'service_name="frontend"' in match["labels"]:
                counted[operation[1]] += float(match["count"])
        return counted


def mirroring(api: int) -> subprocess.Popen[bytes]:
    """Start a mirror with the configuration that the API has."""
    given = Path(f"/proc/{api}/environ").read_bytes().split(b"\0")
    environment = dict(entry.decode().split("=", 1) for entry in given if b"=" in entry)
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    return subprocess.Popen([sys.executable, "-m", "shapes.mirroring"], env=environment)


def _load() -> str:
    return " ".join(f"{each:.1f}" for each in os.getloadavg())


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*(given + [SECONDS, RATE, BURST][len(given) :])))
