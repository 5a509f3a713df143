"""What the codec of payloads costs: by size, and for a whole run with and without it.

    python benchmarks/payloads.py [runs a burst] [bursts]

Sizes are those of the golden histories' payloads. Runs are the intake workload, with API, worker and mirror
in this one process, in bursts with and without the codec by turns; CPU is this process's and the Temporal
server's, one for each. Only the ratios of one session travel; bytes travel as they are.
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
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import structlog
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload

from activities.clients import payloads
from activities.clients.keyring import Key
from db import migrate
from local import mail, ports, temporal
from local.postgres import plain
from local.supervisor import Service, Supervisor
from tests import servers
from tests.budgets.counting import intake, taken_through
from tests.conftest import Postgres
from tests.e2e import house as building
from tests.e2e.house import House
from tests.e2e.target import Target
from tests.golden import corpus

BUCKETS = (64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536)
FOREVER = float("inf")


def found(message: Message) -> Iterator[Payload]:
    """Yield every payload in a message."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        is_map = field.message_type.GetOptions().map_entry
        values = value.values() if is_map else value if hasattr(value, "append") else [value]
        for each in values:
            if isinstance(each, Payload):
                yield each
            elif isinstance(each, Message):
                yield from found(each)


def by_size() -> None:
    """Print, for each size of payloads, what compressing saves and what all of it costs."""
    key = Key(uuid4().hex, uuid4(), AESGCM(os.urandom(32)), FOREVER, FOREVER)
    sorted_: dict[int, list[Payload]] = defaultdict(list)
    for path in corpus.paths():
        for event in corpus.read(path).events:
            for payload in found(event):
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
    postgres = Postgres(servers.address("postgres"))
    name = f"bench_{'sealed' if encrypts else 'plain'}"
    with psycopg.connect(plain(postgres.admin_url), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = postgres.url(name, user="flowtrack_app")
    migrate.upgrade(postgres.url(name, user="postgres"), url)
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
    asyncio.run(by_run(*(int(each) for each in sys.argv[1:3]) if sys.argv[2:] else (40, 5)))
    sys.stdout.flush()
    if alive is not None:
        servers.finish(alive)
    # About one process in ten that used the Temporal SDK aborts while the interpreter is taken down.
    os._exit(0)
