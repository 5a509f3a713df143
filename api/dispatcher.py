"""The dispatcher: starts, cancels and wakes whatever Temporal or the API was away for (design §4)."""

import asyncio
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.service import RPCError

from api.cancels import Cancels
from api.metrics import Metrics
from api.starter import Starter
from db import doors
from db.session import Database
from workflows.messages import Heard

log = structlog.get_logger()


class Dispatcher:
    """Claims queued executions and wakes, a few at a time; any number of dispatchers may run."""

    def __init__(
        self,
        database: Database,
        starter: Starter,
        *,
        name: str,
        interval: float = 1.0,
        stale_seconds: float = 10.0,
        batch: int = 50,
        metrics: Metrics | None = None,
    ) -> None:
        self._database = database
        self._metrics = metrics or Metrics()
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
                self._metrics.rounds.labels("postponed").inc()
                found = 0
            except Exception:
                # A defect of ours may hold up one round, never all that is queued.
                log.exception("dispatch failed")
                self._metrics.rounds.labels("failed").inc()
                found = 0
            if found < self._batch:
                await asyncio.sleep(self._interval)

    async def dispatch(self) -> int:
        """Claim one batch of each kind and carry it out; return how large the largest was."""
        if not await self._starter.is_reachable():
            self._metrics.rounds.labels("away").inc()
            return 0
        limit, worker, stale = self._batch, self._name, self._stale_seconds
        cancelled = await self._cancels.carry_out(limit=limit, stale_seconds=stale)
        async with self._database.door() as session:
            claimed = await doors.claim_queued(session, limit=limit, worker=worker, stale_seconds=stale)
            wakes = await doors.claim_wakes(session, limit=limit, worker=worker, stale_seconds=stale)
        turns = asyncio.Semaphore(8)
        await asyncio.gather(*(self._start(turns, c) for c in claimed), self._wake(turns, wakes))
        self._metrics.rounds.labels("done").inc()
        for kind, count in (("start", len(claimed)), ("wake", len(wakes)), ("cancel", cancelled)):
            self._metrics.claims.labels(kind).inc(count)
        return max(len(claimed), len(wakes), cancelled)

    async def _start(self, turns: asyncio.Semaphore, claim: doors.Claim) -> None:
        async with turns:
            await self._starter.start(claim.workspace_id, claim.execution_id)

    async def _wake(self, turns: asyncio.Semaphore, wakes: list[doors.Wake]) -> None:
        """Carry wakes to their runs, each run's in order; what Temporal did not take stays for later."""
        by_run: dict[UUID, list[doors.Wake]] = {}
        for wake in wakes:
            by_run.setdefault(wake.execution_id, []).append(wake)
        done = await asyncio.gather(*(self._tell(turns, each) for each in by_run.values()))
        carried = [wake for each in done for wake in each]
        if carried:
            async with self._database.door() as session:
                await doors.end_wakes(session, carried)

    async def _tell(self, turns: asyncio.Semaphore, wakes: list[doors.Wake]) -> list[doors.Wake]:
        """Tell one run; a run that is over needs to hear nothing more."""
        carried: list[doors.Wake] = []
        async with turns:
            for wake in wakes:
                heard = Heard(type=wake.event_type, at=wake.happened_at, id=str(wake.event_id))
                try:
                    await self._starter.tell(wake.execution_id, heard)
                except (RPCError, RuntimeError, OSError) as error:
                    ids = {"workspace_id": str(wake.workspace_id), "execution_id": str(wake.execution_id)}
                    log.warning("wake postponed", **ids, reason=str(error)[:200])
                    self._metrics.wakes.labels("postponed").inc()
                    break
                self._metrics.wakes.labels("told").inc()
                carried.append(wake)
        return carried
