"""The intake workload on FlowTrack and as bare effects, interleaved: forms accepted, runs drained, CPU a run.

    python benchmarks/intake.py [forms in a burst] [bursts]

One form is: trigger, condition, status change, e-mail over SMTP, signed webhook; all rows mirrored. The bare
effects do the same writes, mail and POST with pooled connections and without durability. Only the ratios
travel from one machine to another.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg

from activities.clients import addresses, http, smtp
from local import demo, ports

PORTS = ("--api-port", "--temporal-port", "--temporal-ui-port", "--mail-port")
CLIENTS = 32
MAIL = b"Subject: Bare\r\nFrom: a@example.com\r\nTo: b@example.com\r\n\r\nHello\r\n"
TICKS = os.sysconf("SC_CLK_TCK")


async def main(forms: int, bursts: int) -> None:
    """Run both in turn and print the medians with their ratio."""
    with tempfile.TemporaryDirectory(prefix="flowtrack-bench-") as directory:
        smtp_port = ports.free()
        up = start(Path(directory), smtp_port)
        try:
            card = {**wait_for(Path(directory) / "up.json", up), "smtp_port": smtp_port}
            await flowtrack(card, up.pid, 20)
            measured = [
                (await flowtrack(card, up.pid, forms), await bare(card, forms)) for _ in range(bursts)
            ]
        finally:
            up.terminate()
            up.wait(60)
    show(measured, forms)


def start(directory: Path, smtp_port: int) -> "subprocess.Popen[bytes]":
    """Start FlowTrack on free ports."""
    free = [word for flag in PORTS for word in (flag, "0")]
    where = ["--data-dir", str(directory), "--smtp-port", str(smtp_port), *free]
    command = [sys.executable, "-m", "flowtrack", "up", "--no-demo", *where]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def wait_for(path: Path, up: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait until everything is up; return what up.json says."""
    while not path.exists():
        if up.poll() is not None:
            raise SystemExit("`flowtrack up` ended; see its logs")
        time.sleep(0.1)
    card: dict[str, Any] = json.loads(path.read_text())
    return card


async def flowtrack(card: dict[str, Any], up: int, forms: int) -> dict[str, float]:
    """Post forms from many clients and wait until every run has completed."""
    burst = uuid.uuid4().hex[:8]
    before, began = cpu_of(up), time.perf_counter()
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:

        async def post(number: int) -> None:
            answers = {**demo.ANSWERS, "email": f"{burst}-{number}@example.com"}
            (await client.post(card["form_url"], json=answers)).raise_for_status()

        latencies = await many(post, forms, at_once=CLIENTS)
    accepted = time.perf_counter() - began
    await drained(card["database_url"], burst, forms)
    seconds = time.perf_counter() - began
    return {
        "accepted": forms / accepted,
        "p95": statistics.quantiles(latencies, n=20)[-1] * 1000,
        "runs": forms / seconds,
        "cpu": (cpu_of(up) - before) * 1000 / forms,
    }


async def drained(database_url: str, burst: str, forms: int) -> None:
    """Wait until the rows say that every run of the burst has completed."""
    query = (
        "SELECT count(*) FROM workflow_executions e JOIN leads l ON l.id = e.lead_id"
        " WHERE l.email LIKE %s AND e.status = 'completed'"
    )
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        while True:
            row = await (await connection.execute(query, (f"{burst}-%",))).fetchone()
            if row is not None and row[0] == forms:
                return
            await asyncio.sleep(0.05)


async def bare(card: dict[str, Any], forms: int) -> dict[str, float]:
    """Do the effects alone."""
    mailer = smtp.SMTPClient(ports.HOST, card["smtp_port"], tls=smtp.TLS.NONE, policy=addresses.MAIL_OPERATOR)
    caller = http.Client(addresses.DEVELOPMENT)
    connections = [await psycopg.AsyncConnection.connect(card["database_url"]) for _ in range(8)]
    await connections[0].execute("CREATE TABLE IF NOT EXISTS bare (email text, data jsonb)")
    await connections[0].commit()
    free = asyncio.LifoQueue[psycopg.AsyncConnection[Any]]()
    for connection in connections:
        free.put_nowait(connection)

    async def act(number: int) -> None:
        connection = await free.get()
        for _ in range(2):
            await connection.execute("INSERT INTO bare VALUES (%s, '{}')", (f"{number}@example.com",))
        await connection.commit()
        free.put_nowait(connection)
        async with mailer.connection() as line:
            await line.send(MAIL, "a@example.com", ["b@example.com"])
        await caller.send("POST", f"{card['mail_url']}/webhooks", {}, b"{}")

    began = time.perf_counter()
    await many(act, forms, at_once=8)
    seconds = time.perf_counter() - began
    for connection in connections:
        await connection.close()
    await mailer.aclose()
    await caller.aclose()
    return {"runs": forms / seconds}


async def many(act: Callable[[int], Awaitable[None]], count: int, *, at_once: int) -> list[float]:
    """Do something many times, some at once; return how long each took."""
    turns = asyncio.Semaphore(at_once)

    async def one(number: int) -> float:
        async with turns:
            began = time.perf_counter()
            await act(number)
            return time.perf_counter() - began

    return await asyncio.gather(*(one(number) for number in range(count)))


def cpu_of(pid: int) -> float:
    """Sum the CPU seconds of a process and all its descendants, the ended ones included."""
    parents: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        child = int(entry.parent.name)
        parents.setdefault(int(fields[1]), []).append(child)
        seconds[child] = sum(map(int, fields[11:15])) / TICKS
    family, total = [pid], 0.0
    while family:
        member = family.pop()
        total += seconds.get(member, 0.0)
        family += parents.get(member, [])
    return total


def show(measured: list[tuple[dict[str, float], dict[str, float]]], forms: int) -> None:
    """Print the medians."""
    ours = {name: statistics.median(one[name] for one, _ in measured) for name in measured[0][0]}
    theirs = statistics.median(one["runs"] for _, one in measured)
    ratio = statistics.median(one["runs"] / other["runs"] for one, other in measured)
    print(f"{forms} forms a burst, {len(measured)} bursts, medians, {os.cpu_count()} cores")
    print("| system | accepted/s | p95 ms | runs/s, drained | CPU ms a run |")
    print("| --- | --- | --- | --- | --- |")
    print(
        f"| FlowTrack | {ours['accepted']:.0f} | {ours['p95']:.0f} | {ours['runs']:.1f} | {ours['cpu']:.0f} |"
    )
    print(f"| bare effects | – | – | {theirs:.0f} | – |")
    print(f"runs/s, FlowTrack to bare effects: {ratio:.3f}")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*(given + [200, 3][len(given) :])))
