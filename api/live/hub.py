"""Everybody who watches runs through this process: woken by one listening connection, and counted.

A viewer is woken, never sent to: it reads the rows itself once its client has taken what came before. So a
slow reader costs a flag, and of a workspace's news a bounded list of ids; beyond that it begins anew.
"""

import asyncio
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from secrets import token_hex
from typing import NamedTuple
from uuid import UUID

from psycopg import Error as DriverError
from sqlalchemy.engine import URL

from db import news
from db.news import News

logger = logging.getLogger(__name__)

MOST_VIEWERS = 100
"""Of one workspace in one process."""
MOST_NEWS = 500
"""Executions that one viewer may have yet to hear of."""
REMEMBERED = 5_000
"""News of all workspaces that a viewer who comes back can catch up on."""
PATIENCE = 5.0
"""The longest pause until PostgreSQL is tried again."""


class TooManyViewers(Exception):
    """The workspace has as many viewers as this process takes."""


class Mark(NamedTuple):
    """A place in the news that this process has heard; another process's is another epoch's."""

    epoch: str
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}~{self.number}"

    @classmethod
    def read(cls, text: str | None) -> "Mark | None":
        """Read what a client sent back."""
        found = re.fullmatch(r"([0-9a-f]{8})~(\d{1,18})", text or "", re.ASCII)
        return cls(found[1], int(found[2])) if found else None


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
    def mark(self) -> Mark:
        """How far the news of its workspace have been heard."""
        return self._hub.mark(self.workspace_id)

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

    def catch_up(self, mark: Mark) -> list[UUID] | None:
        """Name the executions that there was news of since; None if that is not known any more."""
        return self._hub.since(mark, self.workspace_id)

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
        hint: Callable[[UUID], None] = lambda execution_id: None,
    ) -> None:
        """Prepare; `hint` has the mirror look at a run that somebody begins to watch."""
        self._url = database_url
        self._hint = hint
        self._viewers: dict[UUID, dict[Viewer, None]] = {}
        """By what they watch: an execution, or a workspace."""
        self._counts: Counter[UUID] = Counter()
        self._epoch = token_hex(4)
        self._numbers: Counter[UUID] = Counter()
        """News so far by workspace: a common count would tell each how busy the others are."""
        self.is_hearing = False
        self._heard: deque[tuple[UUID, UUID]] = deque(maxlen=REMEMBERED)
        self.is_closed = False

    def mark(self, workspace_id: UUID) -> Mark:
        """How far a workspace's news have been heard."""
        return Mark(self._epoch, self._numbers[workspace_id])

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

    def since(self, mark: Mark, workspace_id: UUID) -> list[UUID] | None:
        """Name the executions whose status was news since a mark; None if it is too old, or not ours."""
        missed = self._numbers[workspace_id] - mark.number
        if not self.is_hearing or mark.epoch != self._epoch or missed < 0:
            return None
        theirs = [run for owner, run in reversed(self._heard) if owner == workspace_id][:missed]
        found = dict.fromkeys(reversed(theirs))
        return list(found) if len(theirs) == missed and len(found) <= MOST_NEWS else None

    async def run(self) -> None:
        """Hear until cancelled; whenever hearing began again, everybody looks at what was missed."""
        if self._url is None:
            return
        delay = 0.25
        while True:
            try:
                async with aclosing(news.listen(self._url)) as heard:
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

    def close(self) -> None:
        """End every stream: the process is going down, and clients go on elsewhere from where they were."""
        self.is_closed = True
        for viewer in self._everybody():
            viewer.wake(None)

    def _tell(self, each: News | None) -> None:
        if each is None:
            self._epoch, self.is_hearing = token_hex(4), True
            self._numbers.clear()
            self._heard.clear()
            for viewer in self._everybody():
                viewer.wake(None)
            return
        for viewer in self._viewers.get(each.execution_id, ()):
            viewer.wake(each.execution_id)
        if each.is_status:
            self._numbers[each.workspace_id] += 1
            self._heard.append((each.workspace_id, each.execution_id))
            for viewer in self._viewers.get(each.workspace_id, ()):
                viewer.wake(each.execution_id)

    def _everybody(self) -> list[Viewer]:
        return [viewer for watched in self._viewers.values() for viewer in watched]
