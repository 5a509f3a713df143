"""The dispatcher: starts, and cancels, whatever Temporal or the API was away for (design §4)."""

import asyncio

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.cancels import Cancels
from api.starter import Starter
from db import doors
from db.session import Database

log = structlog.get_logger()


class Dispatcher:
    """Claims queued executions, a few at a time; any number of dispatchers may run."""

    def __init__(
        self,
        database: Database,
        starter: Starter,
        *,
        name: str,
        interval: float = 1.0,
        stale_seconds: float = 10.0,
        batch: int = 50,
    ) -> None:
        self._database = database
        self._starter = starter
        self._cancels = Cancels(database, starter)
        self._name = name
        self._interval = interval
        self._stale_seconds = stale_seconds
        self._batch = batch

    async def run(self) -> None:
        """Dispatch until cancelled; an outage costs time, never a row."""
        while True:
            try:
                found = await self.dispatch()
            except (DBAPIError, PoolTimeout, OSError) as error:
                log.warning("dispatch postponed", reason=type(error).__name__)
                found = 0
            if found < self._batch:
                await asyncio.sleep(self._interval)

    async def dispatch(self) -> int:
        """Claim one batch of each kind and carry it out; return how large the larger was."""
        if not await self._starter.is_reachable():
            return 0
        cancelled = await self._cancels.carry_out(limit=self._batch, stale_seconds=self._stale_seconds)
        async with self._database.door() as session:
            claimed = await doors.claim_queued(
                session, limit=self._batch, worker=self._name, stale_seconds=self._stale_seconds
            )
        turns = asyncio.Semaphore(8)
        await asyncio.gather(*(self._start(turns, c) for c in claimed))
        return max(len(claimed), cancelled)

    async def _start(self, turns: asyncio.Semaphore, claim: doors.Claim) -> None:
        async with turns:
            await self._starter.start(claim.workspace_id, claim.execution_id)
