"""The mirror as a service: told where to look by hints, and by a sweep where hints were lost (design §7)."""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import Error as DriverError
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.client import Client
from temporalio.service import RPCError

from activities.clients.callbacks import Callbacks
from api.metrics import Metrics
from api.mirror.follower import Follower, Look
from api.mirror.history import Histories
from api.mirror.kin import Keeper
from api.mirror.pace import Pace
from api.mirror.sweep import Sweep
from api.traffic import Traffic
from db import mirrors
from db.mirrors import Hint
from db.session import Database

logger = logging.getLogger(__name__)

# A lazy Temporal client whose server is away raises RuntimeError.
OUTAGES = (RPCError, RuntimeError, OSError, DBAPIError, PoolTimeout, DriverError)


@dataclass(frozen=True)
class News:
    """What is known of a hint: in which run something happened, or when it closed."""

    run_id: str = ""
    closed_at: datetime | None = None


@dataclass
class Watch:
    """An execution that something was heard of lately."""

    due: float
    pause: float
    until: float
    """When it is looked at whatever is still heard of it."""
    quiet: float = 0.0
    """When nothing will have been heard of it for a moment."""
    empty: int = 0
    is_new: bool = True
    """It has not been looked at."""
    news: News | None = None
    """What was heard last while it is being looked at."""
    is_heard_of: bool = True
    """If not, one look is enough: whoever moves it on says so."""


class Mirror:
    """Keeps the rows of all executions up to their histories; any number of mirrors may run."""

    def __init__(
        self,
        client: Client,
        database: Database,
        *,
        database_url: str,
        pace: Pace | None = None,
        traffic: Traffic | None = None,
        verbose: bool = False,
        metrics: Metrics | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        """Prepare; without `callbacks` the sweep finds what closes out of sight."""
        self.callbacks = callbacks
        self._metrics = metrics or Metrics()
        self._traffic = traffic or Traffic()
        self.pace = pace or Pace()
        histories = Histories(client)
        self.follower = Follower(histories, database, verbose=verbose, metrics=self._metrics)
        keep = Keeper(client, database, hint=self.hint)
        self._keep = keep
        self._sweep = Sweep(
            self.follower,
            histories,
            database,
            pace=self.pace,
            hint=self.hint,
            keep=keep,
            ask=self._ask,
        )
        self._url = database_url
        self._watches: dict[UUID, Watch] = {}
        self._queue: list[tuple[float, UUID]] = []
        self._news = asyncio.Event()
        self._missed = asyncio.Event()
        self._slots = asyncio.Semaphore(self.pace.concurrency)
        self._troubles: set[str] = set()

    def told(self, hint: Hint) -> None:
        """Hear from a worker that an execution moved on."""
        self.hint(hint.execution_id, run_id=hint.run_id, is_over=hint.is_over)

    def hint(
        self,
        execution_id: UUID,
        *,
        run_id: str = "",
        closed_at: datetime | None = None,
        is_over: bool = False,
    ) -> None:
        """Have an execution looked at very soon; call it after everything that may have moved it on.

        Who knows in which run, or what closed when, says so: what is mirrored already costs nothing then.
        Of a run that is over nothing more will be heard: it is looked at now.
        """
        news = News(run_id, closed_at)
        if self._is_known(execution_id, news):
            return
        now, pace = asyncio.get_running_loop().time(), self.pace
        watch, first = self._watches.get(execution_id), 0.0 if is_over else pace.first
        if watch is None:
            self._watch(execution_id, now + first)
            return
        watch.news = news
        watch.empty, watch.pause, watch.quiet, watch.is_heard_of = 0, pace.again, now + first, True
        due = now + (first if watch.is_new or is_over else pace.again)
        if watch.due > due:
            watch.due, watch.until = due, due + pace.longest
            self._plan(execution_id, watch)

    def closed(self, execution_id: UUID, at: datetime | None) -> None:
        """Hear from Temporal that an execution closed."""
        self.hint(execution_id, closed_at=at)

    def expect(self, execution_id: UUID) -> None:
        """Have an execution looked at that was started just now, if nothing is heard of it before."""
        if execution_id not in self._watches:
            patience = self.pace.started * (1 + len(self._watches) / self.pace.crowd)
            self._watch(execution_id, asyncio.get_running_loop().time() + patience)
            self._watches[execution_id].is_heard_of = False

    async def rebuild(self, execution_id: UUID) -> bool:
        """Project an execution from zero; False if Temporal no longer has its history."""
        return await self.follower.rebuild(execution_id)

    async def run(self) -> None:
        """Mirror until cancelled, whatever else is down."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work(tasks), name="mirror")
            tasks.create_task(self._listen(), name="mirror hints")
            tasks.create_task(self._sweep_on(), name="mirror sweep")

    # ── looks

    def _is_known(self, execution_id: UUID, news: News) -> bool:
        return self.follower.knows(execution_id, run_id=news.run_id, closed_at=news.closed_at)

    def _watch(self, execution_id: UUID, due: float) -> None:
        watch = self._watches[execution_id] = Watch(due, self.pace.again, due + self.pace.longest)
        self._plan(execution_id, watch)

    def _plan(self, execution_id: UUID, watch: Watch) -> None:
        heapq.heappush(self._queue, (watch.due, execution_id))
        self._news.set()

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            execution_id, watch = await self._next()
            await self._slots.acquire()
            await self._traffic.give_way()
            tasks.create_task(self._attend(execution_id, watch))

    async def _next(self) -> tuple[UUID, Watch]:
        """Wait for the first execution that is due."""
        clock = asyncio.get_running_loop().time
        while True:
            self._news.clear()
            left = self._queue[0][0] - clock() if self._queue else None
            if left is None or left > 0:
                await self._sleep(left)
                continue
            due, execution_id = heapq.heappop(self._queue)
            watch = self._watches.get(execution_id)
            # One that was planned anew leaves its old place in the queue behind.
            if watch is None or watch.due != due:
                continue
            if min(watch.quiet, watch.until) <= clock():
                return execution_id, watch
            watch.due = min(watch.quiet, watch.until)
            self._plan(execution_id, watch)

    async def _sleep(self, seconds: float | None) -> None:
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return

    async def _attend(self, execution_id: UUID, watch: Watch) -> None:
        try:
            watch.news = None
            looked = await self._look(execution_id, watch)
            if looked.has_kin:
                await self._keep()
        except Exception as error:
            self._metrics.looks.labels("failed").inc()
            self._stumble(f"look {execution_id}", error)
            self._again(execution_id, watch, min(watch.pause * 2, self.pace.patience))
        else:
            self._metrics.looks.labels(looked.found).inc()
            self._recover(f"look {execution_id}")
            self._note(execution_id, watch, looked)
        finally:
            self._slots.release()

    async def _look(self, execution_id: UUID, watch: Watch) -> Look:
        """Look; an open run is not let out of sight before Temporal is to tell of its close."""
        looked = await self.follower.look(execution_id)
        empty = 0 if looked.advanced else watch.empty + 1
        is_last = empty >= self.pace.empty_reads or not watch.is_heard_of
        if is_last and looked.is_untold and not await self._ask(execution_id):
            return await self.follower.look(execution_id)
        return looked

    async def _ask(self, execution_id: UUID) -> bool:
        """Ask Temporal to tell of a run's close; False if it has closed meanwhile."""
        return self.callbacks is None or await self.callbacks.ask(execution_id)

    def _note(self, execution_id: UUID, watch: Watch, looked: Look) -> None:
        watch.empty = 0 if looked.advanced else watch.empty + 1
        if looked.closed and watch.news is not None and not self._is_known(execution_id, watch.news):
            # Somebody told of something else meanwhile: it may have been reset as it closed.
            watch.is_heard_of = False
        elif looked.closed or watch.empty >= self.pace.empty_reads or not watch.is_heard_of:
            self._watches.pop(execution_id, None)
            return
        pause = self.pace.again if looked.advanced else watch.pause * 2
        self._again(execution_id, watch, pause)

    def _again(self, execution_id: UUID, watch: Watch, pause: float) -> None:
        watch.pause, watch.due, watch.is_new = pause, asyncio.get_running_loop().time() + pause, False
        watch.until = watch.due + self.pace.longest
        self._plan(execution_id, watch)

    # ── who tells

    async def _listen(self) -> None:
        heard_before = False

        async def listen() -> None:
            nonlocal heard_before
            async with aclosing(mirrors.listen(self._url)) as hints:
                async for hint in hints:
                    self._recover("listen")
                    if hint is not None:
                        self.told(hint)
                    elif heard_before:
                        self._missed.set()
                    heard_before = True

        await self._for_ever("listen", listen, pause=lambda: asyncio.sleep(0.1))

    async def _sweep_on(self) -> None:
        async def sweep() -> None:
            everything = self._missed.is_set()
            self._missed.clear()
            try:
                await self._sweep(everything=everything)
            except BaseException:
                if everything:
                    self._missed.set()
                raise

        async def pause() -> None:
            try:
                await asyncio.wait_for(self._missed.wait(), self.pace.sweep)
            except TimeoutError:
                return

        self._missed.set()
        await self._for_ever("sweep", sweep, pause=pause)

    async def _for_ever(
        self, name: str, act: Callable[[], Awaitable[None]], *, pause: Callable[[], Awaitable[None]]
    ) -> None:
        delay = 0.25
        while True:
            try:
                await act()
            except Exception as error:
                self._stumble(name, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, self.pace.patience)
                continue
            self._recover(name)
            delay = 0.25
            await pause()

    def _stumble(self, what: str, error: Exception) -> None:
        """Say once what goes wrong; a defect with its traceback, an outage without."""
        if what in self._troubles:
            return
        self._troubles.add(what)
        is_outage = isinstance(error, OUTAGES)
        if is_outage and "outage" in self._troubles:
            return
        if is_outage:
            self._troubles.add("outage")
        logger.log(
            logging.WARNING if is_outage else logging.ERROR,
            "mirror: %s: %s",
            what,
            # What PostgreSQL says of a row that it refuses shows the row.
            type(error.orig).__name__ if isinstance(error, IntegrityError | DataError) else error,
            exc_info=None if is_outage else error,
        )

    def _recover(self, what: str) -> None:
        if what not in self._troubles:
            return
        self._troubles.discard(what)
        if "outage" in self._troubles:
            self._troubles.discard("outage")
            logger.info("mirror: going on")
