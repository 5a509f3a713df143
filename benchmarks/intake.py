"""The intake workload on FlowTrack, on Temporal by hand and as bare effects, interleaved, with verdicts.

    python benchmarks/intake.py [forms in a burst] [bursts]

One form is: trigger, condition, status change, e-mail over SMTP, signed webhook; all rows mirrored. By hand
there are two shapes. `tutorial`: three normal activities, the SDK's and the server's defaults, the default
file store. `lean`: FlowTrack's own shape, that is API and worker apart, local activities, the same server,
store and clients, the steps' rows in one batch; no tenancy, no quota and no effects table. The bare effects
take the same form by HTTP and do the writes, the mail and the POST by the same pooled connections before they
answer, without durability. Only ratios travel to another machine.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
from shapes import machine
from shapes.machine import Machine
from temporalio.client import Client

from local import demo, ports

SYSTEMS = ("flowtrack", "lean", "tutorial")
CLIENTS = 32
ALONE = 15
METRICS = 1.5
"""Seconds after which the server shows what it has counted."""
DRAINED = {
    "flowtrack": "SELECT count(*) FROM workflow_executions WHERE id = ANY(%s) AND status = 'completed'",
    "lean": "SELECT count(*) FROM hand.runs WHERE id = ANY(%s) AND status = 'completed'",
}
ID = {"flowtrack": "execution_id", "lean": "run_id", "tutorial": "run_id", "bare": "run_id"}
"""What each answers with, to be asked for by: a search would cost more than some of the runs."""
WARM = 40
SIZES = """
    SELECT sum(pg_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'i', 't') AND (n.nspname = 'public' OR (n.nspname = 'pg_toast' AND c.relname
        IN (SELECT t.relname FROM pg_class o JOIN pg_class t ON t.oid = o.reltoastrelid
            JOIN pg_namespace m ON m.oid = o.relnamespace WHERE m.nspname = 'public')))
"""
Figures = dict[str, float]


async def main(forms: int, bursts: int) -> None:
    """Run all in turn and print the medians, the ratios and what is demanded."""
    with tempfile.TemporaryDirectory(prefix="flowtrack-bench-") as directory:
        running = machine.start(Path(directory))
        try:
            bench = Bench(running)
            for system in SYSTEMS:
                await bench.burst(system, WARM)
            # As autovacuum does within a minute; until then PostgreSQL takes every table for tiny.
            await bench.read("ANALYZE")
            rounds = [await bench.round(forms) for _ in range(bursts)]
            kept = await bench.kept(forms)
            events = await bench.events()
        finally:
            running.stop()
    show(rounds, kept=kept, events=events, forms=forms)


class Bench:
    """Measures one system after the other on a running machine."""

    def __init__(self, running: Machine) -> None:
        self.running, self.card = running, running.card
        hand = f"http://{ports.HOST}:{self.card['hand_port']}"
        self.urls = {"flowtrack": self.card["form_url"]}
        self.urls |= {name: f"{hand}/{name}" for name in (*SYSTEMS[1:], "bare")}
        self.connection: psycopg.AsyncConnection[Any] | None = None

    async def round(self, forms: int) -> dict[str, Figures]:
        """Measure every system once."""
        found = {system: await self.burst(system, forms) for system in SYSTEMS}
        for system in ("flowtrack", "lean"):
            found[system]["p50"] = await self.alone(system)
        return {**found, "bare": await self.bare(forms)}

    async def burst(self, system: str, forms: int) -> Figures:
        """Post forms from many clients and wait until every run has completed."""
        tag = uuid.uuid4().hex[:8]
        await asyncio.sleep(METRICS)
        cpu, calls = self.running.cpu(system), self.running.calls(system)
        ids: list[uuid.UUID] = []
        completed, began = await self.completed(system, ids), time.perf_counter()
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:

            async def post(number: int) -> None:
                ids.append(await self.post(client, system, f"{tag}-{number}"))

            latencies = await many(post, forms, at_once=min(CLIENTS, forms))
        accepted = time.perf_counter() - began
        while await self.completed(system, ids) - completed < forms:  # noqa: ASYNC110 - in other processes
            await asyncio.sleep(0.1)
        seconds, spent = time.perf_counter() - began, self.running.cpu(system) - cpu
        await asyncio.sleep(METRICS)
        return {
            "accepted": forms / accepted,
            "p95": statistics.quantiles(latencies, n=20)[-1] * 1000,
            "runs": forms / seconds,
            "cpu": spent * 1000 / forms,
            "calls": (self.running.calls(system) - calls) / forms,
        }

    async def bare(self, forms: int) -> Figures:
        """Post forms whose effects are done before the answer, from many clients and from one."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:

            async def post(number: int) -> None:
                await self.post(client, "bare", uuid.uuid4().hex)

            alone = await many(post, ALONE * 2, at_once=1)
            began = time.perf_counter()
            await many(post, forms, at_once=CLIENTS)
            runs = forms / (time.perf_counter() - began)
        return {"runs": runs, "p50": statistics.median(alone) * 1000}

    async def post(self, client: httpx.AsyncClient, system: str, name: str) -> uuid.UUID:
        """Submit one form, again while the answer is that there is no room; return the run's id."""
        answers = {**demo.ANSWERS, "email": f"{name}@example.com"}
        answer = await client.post(self.urls[system], json=answers)
        while answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            await asyncio.sleep(0.2)
            answer = await client.post(self.urls[system], json=answers)
        return uuid.UUID(answer.raise_for_status().json()[ID[system]])

    async def completed(self, system: str, ids: list[uuid.UUID]) -> int:
        """Count the completed runs of a burst; of the tutorial's, all."""
        if system == "tutorial":
            client = await Client.connect(self.card["tutorial"])
            return (await client.count_workflows("ExecutionStatus = 'Completed'")).count
        return int(await self.read(DRAINED[system], (ids,)))

    async def read(self, query: str, values: tuple[Any, ...] = ()) -> Any:
        """Read one value as the administrator, by a connection that stays: a new one is dear."""
        if self.connection is None:
            url = self.card["database_url"]
            self.connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        cursor = await self.connection.execute(query.encode(), values)
        row = await cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    async def alone(self, system: str) -> float:
        """Submit one form after the other and return the median milliseconds until its run has completed."""
        seconds = []
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            for _ in range(ALONE):
                began = time.perf_counter()
                ids = [await self.post(client, system, uuid.uuid4().hex)]
                while not await self.completed(system, ids):  # noqa: ASYNC110 - in other processes
                    await asyncio.sleep(0.005)
                seconds.append(time.perf_counter() - began)
        return statistics.median(seconds) * 1000

    async def kept(self, forms: int) -> float:
        """Measure the bytes that a run leaves in PostgreSQL once it is vacuumed."""
        await self.read("VACUUM FULL")
        before = await self.read(SIZES)
        await self.burst("flowtrack", forms)
        await self.read("VACUUM FULL")
        return float(await self.read(SIZES) - before) / forms

    async def events(self) -> int:
        """Count the events of one run's history."""
        client = await Client.connect(self.card["lean"])
        newest = "SELECT id FROM workflow_executions ORDER BY id DESC LIMIT 1"
        handle = client.get_workflow_handle(f"execution-{await self.read(newest)}")
        return len((await handle.fetch_history()).events)


async def many(act: Callable[[int], Awaitable[None]], count: int, *, at_once: int) -> list[float]:
    """Do something many times, some at once; return how long each took."""
    turns = asyncio.Semaphore(at_once)

    async def one(number: int) -> float:
        async with turns:
            began = time.perf_counter()
            await act(number)
            return time.perf_counter() - began

    return await asyncio.gather(*(one(number) for number in range(count)))


def show(rounds: list[dict[str, Figures]], *, kept: float, events: int, forms: int) -> None:
    """Print the medians, and each demand with its verdict."""
    print(f"{forms} forms a burst, {len(rounds)} bursts, medians; {os.cpu_count()} cores, load {_load()}\n")
    print("| system | accepted/s | p95 ms | runs/s | CPU ms a run | server calls a run | p50 alone ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for system in (*SYSTEMS, "bare"):
        columns = ("accepted", "p95", "runs", "cpu", "calls", "p50")
        cells = [_middle([one[system][name] for one in rounds if name in one[system]]) for name in columns]
        print(f"| {system} | " + " | ".join("–" if cell is None else f"{cell:.1f}" for cell in cells) + " |")
    print("\n| demand | reached | must | aim | verdict |\n| --- | --- | --- | --- | --- |")
    ours = [one["flowtrack"] for one in rounds]
    for name, value, must, aim in (
        ("runs/s, to the same shape by hand", _ratio(rounds, "runs", "lean"), 0.70, 0.85),
        ("CPU a run, to the same shape", _ratio(rounds, "cpu", "lean"), -1.45, -1.25),
        ("server calls a run, to the same shape", _ratio(rounds, "calls", "lean"), -1.1, -1.0),
        ("runs/s, to three normal activities", _ratio(rounds, "runs", "tutorial"), 2.5, 4.0),
        ("p50 of one client, to bare effects", _ratio(rounds, "p50", "bare"), -6.0, -4.0),
        ("forms accepted a second", _middle([one["accepted"] for one in ours]) or 0, 200.0, 500.0),
        ("bytes kept a run", kept, -6000.0, -4000.0),
        ("history events of a run", float(events), -15.0, -10.0),
    ):
        print(f"| {name} | {value:.2f} | {_bar(must)} | {_bar(aim)} | {_verdict(value, must, aim)} |")


def _ratio(rounds: list[dict[str, Figures]], name: str, other: str) -> float:
    return statistics.median(one["flowtrack"][name] / one[other][name] for one in rounds)


def _middle(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _bar(bar: float) -> str:
    """Write a bar; a negative one is a ceiling."""
    return f"≥ {bar:g}" if bar > 0 else f"≤ {-bar:g}"


def _verdict(value: float, must: float, aim: float) -> str:
    def holds(bar: float) -> bool:
        return value >= bar if bar > 0 else value <= -bar

    return "aim" if holds(aim) else "must" if holds(must) else "missed"


def _load() -> str:
    return " ".join(f"{each:.1f}" for each in os.getloadavg())


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*(given + [200, 3][len(given) :])))
