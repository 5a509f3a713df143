"""Mirrors in processes of their own, killed by SIGKILL: wherever they stand, and in the midst of a write."""

import asyncio
import logging
import os
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import cycle
from pathlib import Path

from sqlalchemy import text
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from api.mirror.mirror import Mirror
from api.mirror.pace import Pace
from db.session import Database
from tests.stranger import Stranger

PACE = Pace(sweep=0.5, silence=timedelta(seconds=1))
ROOT = Path(__file__).parents[3]
PATIENCE, TRIES = 1.0, 5
"""How long, and how often, it is looked who wants to write, until a mirror is killed that does not."""
# Who holds this has every mirror wait in the midst of its write.
HOLD = text("LOCK TABLE mirror_cursors IN SHARE MODE")
WRITING = text("SELECT application_name FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


@dataclass
class Mirrors:
    """Keeps some mirrors going; whoever takes a killed one's place knows nothing of what that one knew."""

    database: Database
    database_url: str
    temporal_address: str
    log: Path
    """What they say on stderr."""
    dice: random.Random
    count: int = 3
    killed: Counter[str] = field(default_factory=Counter)
    """By where they stood."""
    _alive: dict[str, Process] = field(default_factory=dict)
    _number: int = 0

    @asynccontextmanager
    async def going(self, *, kill_every: float) -> AsyncIterator[None]:
        """Have them mirror, and one killed every so often."""
        for _ in range(self.count):
            await self._start()
        killer = asyncio.create_task(self._kill_on(kill_every))
        try:
            yield
            assert not killer.done()
        finally:
            killer.cancel()
            with suppress(asyncio.CancelledError):
                await killer
            for name in list(self._alive):
                await self._end(name)

    async def _kill_on(self, every: float) -> None:
        for aim in cycle((self._kill_in_a_write, self._kill_in_a_write, self._kill_anywhere)):
            await asyncio.sleep(every)
            self.killed[await aim()] += 1
            await self._start()

    async def _kill_anywhere(self) -> str:
        await self._end(self.dice.choice(list(self._alive)))
        return "anywhere"

    async def _kill_in_a_write(self) -> str:
        """Hold all writes up and kill the first that is in one; what it had sent arrives, uncommitted."""
        for _ in range(TRIES):
            async with self.database.door() as held:
                await held.execute(HOLD)
                if name := await self._first_to_write():
                    await self._end(name)
                    return "in a write"
            await asyncio.sleep(self.dice.random())
        return await self._kill_anywhere()

    async def _first_to_write(self) -> str | None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            async with self.database.door() as session:
                found: set[str] = set((await session.execute(WRITING)).scalars())
            for name in found.intersection(self._alive):
                return name
            await asyncio.sleep(0.01)
        return None

    async def _start(self) -> None:
        """Start one and wait until it mirrors: until then it has nothing to lose."""
        self._number += 1
        name = f"mirror {self._number}"
        with self.log.open("ab") as log:
            process = self._alive[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.api.mirror.killed"),
                *(self.temporal_address, self.database_url, name),
                cwd=ROOT,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n", self.log.read_text()

    async def _end(self, name: str) -> None:
        process = self._alive[name]
        assert process.returncode is None, f"{name} ended by itself"
        process.kill()
        await process.wait()
        del self._alive[name]


async def mirror(temporal_address: str, database_url: str, name: str) -> None:
    """Mirror until killed, or until whoever started this is gone."""
    converter = replace(pydantic_data_converter, payload_codec=Stranger())
    client = await Client.connect(temporal_address, data_converter=converter)
    database = Database(database_url, application_name=name)
    alone = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    alone.add_done_callback(lambda _: os._exit(0))
    print("up", flush=True)  # noqa: T201 - to whoever kills it
    await Mirror(client, database, database_url=database_url, pace=PACE).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(mirror(*sys.argv[1:]))
