"""Everybody who watches runs through this process: woken by one listening connection, and counted.

A viewer is woken, never sent to: it reads the rows itself once its client has taken what came before. So a
slow reader costs a flag, and of a workspace's news a bounded list of ids; beyond that it begins anew.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from secrets import token_hex
from uuid import UUID

from psycopg import Error as DriverError
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db import news
from db.feed import Place
from db.news import Mark, News
from db.session import Database

logger = logging.getLogger(__name__)

MOST_VIEWERS = 100
"""Of one workspace in one process."""
MOST_NEWS = 500
"""Executions that one viewer may have yet to hear of."""
MARKED = 1.0
"""Seconds between two marks: so much is told again, at most, to a viewer who comes back."""
PATIENCE = 5.0
"""The longest pause until PostgreSQL is tried again."""


class TooManyViewers(Exception):
    """The workspace has as many viewers as this process takes."""


class Viewer:
    """Somebody who watches a run, or all runs of a workspace."""

    def __init__(self, hub: "Hub", workspace_id: UUID, execution_id: UUID | None) -> None:
        self._hub = hub
        self.workspace_id = workspace_id
        self.execution_id = execution_id
        self._woken = asyncio.Event()
        self._ids: dict[UUID, None] = {}
        self._has_lost = False

    @property
    def is_over(self) -> bool:
        """Tell whether the process is going down."""
        return self._hub.is_closed

    @property
    def place(self) -> Place | None:
        """All news from before it have been heard; of those not taken yet, too."""
        return self._hub.place

    @property
    def is_told(self) -> bool:
        """Tell whether it is woken when there is news; else it has to look of itself."""
        return self._hub.is_hearing

    async def wait(self, seconds: float) -> bool:
        """Wait for news; False when there were none for so long."""
        if self.is_over:
            return False
        try:
            await asyncio.wait_for(self._woken.wait(), seconds)
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def take(self) -> list[UUID] | None:
        """Take the executions that there is news of; None if some were missed."""
        ids, lost = list(self._ids), self._has_lost
        self._ids, self._has_lost = {}, False
        return None if lost else ids

    def wake(self, execution_id: UUID | None) -> None:
        """Have it look; without an execution it may have missed some."""
        if execution_id is None or len(self._ids) >= MOST_NEWS:
            self._ids, self._has_lost = {}, True
        elif self.execution_id is None and not self._has_lost:
            self._ids[execution_id] = None
        self._woken.set()


class Hub:
    """Hears what runs are doing and wakes those who watch them."""

    def __init__(
        self,
        database_url: str | URL | None = None,
        *,
        database: Database | None = None,
        hint: Callable[[UUID], None] = lambda execution_id: None,
    ) -> None:
        """Prepare; `hint` has the mirror look at a run that somebody begins to watch.

        Without a `database` to mark in, viewers' places stay those of their own looks.
        """
        self._url = database_url
        self._database = database
        self._hint = hint
        self._viewers: dict[UUID, dict[Viewer, None]] = {}
        """By what they watch: an execution, or a workspace."""
        self._counts: Counter[UUID] = Counter()
        self.is_hearing = False
        self.is_closed = False
        self.place: Place | None = None
        """All news from before it have been heard."""
        self._marks: dict[str, Place] = {}
        """Those that are not heard yet."""
        self._is_due = asyncio.Event()
        """There was news that no mark follows yet."""

    @property
    def viewers(self) -> int:
        """Count everybody who watches."""
        return self._counts.total()

    @contextmanager
    def watching(self, workspace_id: UUID, execution_id: UUID | None = None) -> Iterator[Viewer]:
        """Let somebody watch a run, or all runs of a workspace; raises TooManyViewers."""
        if self._counts[workspace_id] >= MOST_VIEWERS:
            raise TooManyViewers
        viewer = Viewer(self, workspace_id, execution_id)
        watched = self._viewers.setdefault(execution_id or workspace_id, {})
        watched[viewer] = None
        self._counts[workspace_id] += 1
        try:
            yield viewer
        finally:
            del watched[viewer]
            if not watched and self._viewers.get(execution_id or workspace_id) is watched:
                del self._viewers[execution_id or workspace_id]
            self._counts[workspace_id] -= 1
            if not self._counts[workspace_id]:
                del self._counts[workspace_id]

    def hint(self, execution_id: UUID) -> None:
        """Have the mirror look at an open run that somebody begins to watch."""
        self._hint(execution_id)

    async def run(self) -> None:
        """Hear until cancelled; whenever hearing began again, everybody looks at what was missed."""
        if self._url is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(self._url))
            if self._database is not None:
                tasks.create_task(self._mark(self._database))

    async def _hear(self, url: str | URL) -> None:
        delay = 0.25
        while True:
            try:
                async with aclosing(news.listen(url)) as heard:
                    async for each in heard:
                        delay = 0.25
                        self._tell(each)
            except (DriverError, OSError) as error:
                logger.warning("viewers are not told of changes: %s", type(error).__name__)
            finally:
                self.is_hearing = False
            # Until it is heard again they look from time to time.
            await asyncio.sleep(delay)
            delay = min(delay * 2, PATIENCE)

    async def _mark(self, database: Database) -> None:
        """Have a mark follow the news: what a viewer is sent then is not told again when it comes back."""
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            word = token_hex(8)
            try:
                async with database.door() as session:
                    # Noted before it is committed: it may be heard at once.
                    self._marks[word] = await news.mark(session, word)
            except (DBAPIError, PoolTimeout, OSError):
                self._marks.pop(word, None)
            await asyncio.sleep(MARKED)

    def close(self) -> None:
        """End every stream: the process is going down, and clients go on elsewhere from where they were."""
        self.is_closed = True
        for viewer in self._everybody():
            viewer.wake(None)

    def _tell(self, each: News | Mark | None) -> None:
        if each is None:
            self.is_hearing, self.place = True, None
            self._marks.clear()
            for viewer in self._everybody():
                viewer.wake(None)
            return
        if isinstance(each, Mark):
            # Others' are of no use: their places are theirs.
            self.place = self._marks.pop(each.word, self.place)
            return
        for viewer in self._viewers.get(each.execution_id, ()):
            viewer.wake(each.execution_id)
        if each.is_status:
            for viewer in self._viewers.get(each.workspace_id, ()):
                viewer.wake(each.execution_id)
                self._is_due.set()

    def _everybody(self) -> list[Viewer]:
        return [viewer for watched in self._viewers.values() for viewer in watched]
