"""What the codec of payloads costs: by size, and for a whole run with and without it.

    python benchmarks/payloads.py [runs a burst] [bursts]

Sizes are those of the golden histories' payloads. Large ones (ADR 0023) are written to and read from this
machine's PostgreSQL, by a process that has the keys; half of each cannot be compressed. Runs are the intake
workload, with API, worker and mirror in this one process, in bursts with and without the codec by turns;
CPU is this process's and the Temporal server's, one for each. Only the ratios of one session travel; bytes
travel as they are.
"""

import asyncio
import logging
import os
import statistics
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import structlog
from sqlalchemy import text
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverStoreContext,
    WorkflowSerializationContext,
)
from uuid_utils.compat import uuid7

from activities.clients import payloads
from activities.clients.blobs import Blobs
from activities.clients.keyring import Keyring, opened
from api.mirror.claims import payloads_of
from db import migrate
from db.session import Database
from local import mail, ports, temporal
from local.postgres import plain
from local.supervisor import Service, Supervisor
from tests import servers
from tests.budgets.counting import intake, taken_through
from tests.conftest import Postgres
from tests.db.conftest import queued, settle
from tests.e2e import house as building
from tests.e2e.house import House
from tests.e2e.target import Target
from tests.golden import corpus

BUCKETS = (64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536)
FOREVER = float("inf")


def by_size() -> None:
    """Print, for each size of payloads, what compressing saves and what all of it costs."""
    key = opened(uuid4().hex, uuid4(), os.urandom(32), fresh=FOREVER, kept=FOREVER)
    sorted_: dict[int, list[Payload]] = defaultdict(list)
    for path in corpus.paths():
        for event in corpus.read(path).events:
            for payload in payloads_of(event):
                size = payload.ByteSize()
                sorted_[next((most for most in BUCKETS if size <= most), BUCKETS[-1])].append(payload)
    print("| payloads up to | how many | bytes | deflated to | encode µs | decode µs |")
    print("| --- | --- | --- | --- | --- | --- |")
    for most in BUCKETS:
        some = sorted_[most][:300]
        if not some:
            continue
        bodies = [payload.SerializeToString() for payload in some]
        before = statistics.mean(map(len, bodies))
        after = statistics.mean(len(zlib.compress(body, payloads.LEVEL)) for body in bodies)
        sealed = [payloads.seal(payload, key) for payload in some]
        encode = timed(lambda some=some: [payloads.seal(each, key) for each in some]) / len(some)
        decode = timed(lambda sealed=sealed: [payloads.unseal(each, key) for each in sealed]) / len(some)
        counted = len(sorted_[most])
        print(f"| {most} | {counted} | {before:.0f} | {after / before:.2f} | {encode:.1f} | {decode:.1f} |")


def timed(work: Any) -> float:
    """Give the microseconds of CPU of one go, the least of several."""
    least = FOREVER
    for _ in range(5):
        began = time.process_time()
        work()
        least = min(least, time.process_time() - began)
    return least * 1e6


async def beside_history(rounds: int) -> None:
    """Print what a large payload costs in the history, and beside it: wall clock, the median."""
    url, _ = new_database("large")
    database = Database(url)
    place = await settle(database, "large")
    execution_id = UUID(bytes=uuid7().bytes)
    async with database.workspace(place.workspace_id) as session:
        session.add(queued(place, id=execution_id))
    keyring = Keyring(database, building.MASTER_KEY)
    keyring.tell(f"execution-{execution_id}", place.workspace_id)
    context = WorkflowSerializationContext("default", f"execution-{execution_id}")
    print("\n| bytes | lies | bytes in history | bytes in PostgreSQL | encode ms | decode ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in (1_000, 150_000, 1_000_000):
        for name, blobs in (("in the history", None), ("beside it", Blobs(database))):
            writer = payloads.converter(keyring, blobs).with_context(context)
            writing, reading = [], []
            for _ in range(rounds):
                told = os.urandom(size // 2).hex()
                began = time.perf_counter()
                written = await writer.encode([told])
                writing.append(time.perf_counter() - began)
                # Another process: it has nothing at hand.
                reader = payloads.converter(keyring, Blobs(database) if blobs else None).with_context(context)
                began = time.perf_counter()
                await reader.decode(written)
                reading.append(time.perf_counter() - began)
            async with database.workspace(place.workspace_id) as session:
                stored = "SELECT coalesce(avg(octet_length(content)), 0)::int FROM payload_blobs"
                lies = (await session.execute(text(stored))).scalar_one()
                await session.execute(text("DELETE FROM payload_blobs"))
            encode, decode = (statistics.median(each) * 1000 for each in (writing, reading))
            print(
                f"| {size:,} | {name} | {written[0].ByteSize():,} | {lies:,} | {encode:.2f} | {decode:.2f} |"
            )
    await database.close()


def by_context() -> None:
    """Print what each payload would pay for the SDK's own external storage, large or not."""
    nowhere = StorageDriverStoreContext(target=None)
    ours = payloads.Converter(pydantic_data_converter.payload_converter_class)
    theirs = replace(ours, external_storage=ExternalStorage(drivers=[Unused()]))
    print("\n| a converter's copy for the context of a payload | µs |")
    print("| --- | --- |")
    for name, converter in (("without external storage", ours), ("with the SDK's", theirs)):
        took = timed(
            lambda converter=converter: [converter._with_store_context(nowhere) for _ in range(1000)]
        )
        print(f"| {name} | {took / 1000:.1f} |")


class Unused(StorageDriver):
    """Stores nothing: what is measured comes before."""

    def name(self) -> str:
        return "unused"

    async def store(self, context: Any, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        raise NotImplementedError

    async def retrieve(self, context: Any, claims: Sequence[StorageDriverClaim]) -> list[Payload]:
        raise NotImplementedError


async def by_run(runs: int, bursts: int) -> None:
    """Print what a run costs with and without."""
    measured: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
    async with AsyncExitStack() as stack:
        houses = {encrypts: await furnished(stack, encrypts=encrypts) for encrypts in (False, True)}
        for _ in range(bursts):
            for encrypts, (house, workflow) in houses.items():
                measured[encrypts].append(await burst(house, workflow, runs))
    print("\n| payloads | CPU ms a run here | CPU ms a run of Temporal | bytes of history |")
    print("| --- | --- | --- | --- |")
    for encrypts, each in measured.items():
        here, there, size = (statistics.median(column) for column in zip(*each, strict=True))
        print(f"| {'encrypted' if encrypts else 'plain'} | {here:.1f} | {there:.1f} | {size:.0f} |")


async def furnished(stack: AsyncExitStack, *, encrypts: bool) -> tuple[House, dict[str, Any]]:
    """Build a house on a database of its own, warm."""
    url, name = new_database("sealed" if encrypts else "plain")
    catcher, target = mail.Catcher(Path(tempfile.mkdtemp())), Target()
    await catcher.start(smtp_port=0, http_port=0)
    stack.push_async_callback(catcher.stop)
    await target.start()
    stack.push_async_callback(target.stop)
    port = ports.free()
    address = f"{ports.HOST}:{port}"
    command = temporal.command(port=port, ui_port=None, database=None, callbacks=[f"{ports.HOST}:*"])
    keeper = Supervisor(Path(tempfile.mkdtemp()), say=lambda said: None)
    stack.push_async_callback(keeper.stop)
    await keeper.start(Service("temporal", command, lambda: temporal.is_ready(address)))
    house = await stack.enter_async_context(
        building.built(url, address, name, catcher, target, encrypts=encrypts)
    )
    workflow = await intake(house)
    for number in range(5):
        await taken_through(house, workflow, number)
    return house, workflow


def new_database(name: str) -> tuple[str, str]:
    """Make a database of its own; give its address and its name."""
    postgres, name = Postgres(servers.address("postgres")), f"bench_{name}"
    with psycopg.connect(plain(postgres.admin_url), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = postgres.url(name, user="flowtrack_app")
    migrate.upgrade(postgres.url(name, user="postgres"), url)
    return url, name


async def burst(house: House, workflow: dict[str, Any], runs: int) -> tuple[float, float, float]:
    """Take submissions through, four at a time."""
    await asyncio.sleep(1)
    address = house.temporal.service_client.config.target_host
    turns, began, theirs = asyncio.Semaphore(4), time.process_time(), server_cpu(address)

    async def one(number: int) -> None:
        async with turns:
            await taken_through(house, workflow, number)

    already = len(house.seen)
    await asyncio.gather(*(one(already + number) for number in range(runs)))
    here, there = time.process_time() - began, server_cpu(address) - theirs
    size = sum(event.ByteSize() for event in await house.history(house.seen[-1]))
    return here / runs * 1000, there / runs * 1000, size


def server_cpu(address: str) -> float:
    """Give the seconds of CPU that a Temporal server has used."""
    port = address.rpartition(":")[2]
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            line = (directory / "cmdline").read_bytes().split(b"\0")
            if b"start-dev" in line and port.encode() in line:
                told = (directory / "stat").read_text().rpartition(")")[2].split()
                return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    return 0.0


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    alive = servers.begin()
    by_size()
    by_context()
    asyncio.run(beside_history(rounds=30))
    asyncio.run(by_run(*(int(each) for each in sys.argv[1:3]) if sys.argv[2:] else (40, 5)))
    sys.stdout.flush()
    if alive is not None:
        servers.finish(alive)
    # About one process in ten that used the Temporal SDK aborts while the interpreter is taken down.
    os._exit(0)
