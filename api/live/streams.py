"""The events that a viewer is sent: first a snapshot, then what changed, each with the place behind it.

Whatever wakes a stream, it reads the rows and sends what is new in them; news may be doubled or come in any
order. It holds no connection of the database while it waits.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import UUID

import structlog
from fastapi.sse import ServerSentEvent
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from api.live.hub import Viewer
from api.live.looks import Looks
from api.live.positions import Positions, RunPosition, WorkspacePosition, digest
from db import feed
from db.feed import Place
from db.models.executions import OPEN_STATUSES
from db.session import Database

log = structlog.get_logger()

CHECK = 15.0
"""Seconds after which a stream looks of itself, and whether its caller may still see what it shows."""
PACE = 0.2
"""Seconds between two looks of one stream, however fast its run goes."""
LIVE_PACE = 1.0
"""Seconds between two looks of one stream at what its run waits for."""
RETRY = 2_000
"""Milliseconds after which a client whose stream broke comes back."""
MOST_KNOWN = 1_000
"""Executions of which a workspace's stream knows how it told them last."""
OUTAGES = (OSError, DBAPIError, PoolTimeout)
Runs = Sequence[dict[str, Any]]


@dataclass
class Watch:
    """What a stream works with."""

    database: Database
    looks: Looks
    viewer: Viewer
    is_allowed: Callable[[], Awaitable[bool]]
    """Asks anew whether the caller may see the rows: keys are revoked, and expire."""
    check: float = CHECK
    was_woken: bool = True
    """There was news, and it does not look of itself."""
    woken_at: float = field(default_factory=monotonic)
    """What happened before then is to be told."""
    _due: float = field(init=False)
    """When that is to be asked again, however much there is to tell meanwhile."""

    def __post_init__(self) -> None:
        """Begin to count: the caller was let in just now."""
        self._due = monotonic() + self.check

    async def wait(self, at_most: float = CHECK) -> bool:
        """Wait until there may be something new; False when the stream is to end."""
        left = min(self._due - monotonic(), at_most)
        self.was_woken = left > 0 and await self.viewer.wait(left)
        if self.was_woken or at_most >= CHECK:
            self.woken_at = monotonic()
        if monotonic() < self._due:
            return not self.viewer.is_over
        try:
            is_allowed = await self.is_allowed()
        except OUTAGES:
            # What cannot be asked is not shown: the rows cannot be read either, or it is asked very soon.
            self._due = monotonic() + min(self.check, 1)
            return not self.viewer.is_over
        self._due = monotonic() + self.check
        return is_allowed and not self.viewer.is_over


# ── one run


async def of_run(
    watch: Watch, execution_id: UUID, positions: Positions, last_id: str | None = None
) -> AsyncGenerator[ServerSentEvent]:
    """Send a run's changes until it is over; goes on behind the last event that the client was sent."""
    story = RunStory(watch, execution_id, positions, last_id)
    while True:
        async for event in story.news():
            yield event
        if story.is_over:
            return
        await asyncio.sleep(PACE)
        if not await watch.wait(story.patience):
            return


class RunStory:
    """What a viewer of one run has been told."""

    def __init__(
        self, watch: Watch, execution_id: UUID, positions: Positions, last_id: str | None = None
    ) -> None:
        self._watch = watch
        self._ids = watch.viewer.workspace_id, execution_id
        self._positions = positions
        self._position = positions.read(last_id)
        self._live: Any = None
        self._asked_at: float | None = None
        self._is_owed = False
        """What it waits for is to be asked, as soon as it may be."""
        self.is_over = False
        """The run has ended and the viewer knows; or there is no such run any more."""

    @property
    def patience(self) -> float:
        """How long nothing needs to be looked at, unless there is news."""
        return LIVE_PACE if self._is_owed else CHECK

    async def news(self) -> AsyncGenerator[ServerSentEvent]:
        """Yield what is new in the rows, and in what the run waits for."""
        try:
            found = await self._read()
        except OUTAGES as error:
            log.warning("stream waits for the database", error=type(error).__name__)
            return
        if found is None:
            self.is_over = True
            return
        name, seen, position = found
        status = seen.run["status"]
        if (event := self._event(name, seen, position)) is not None:
            yield event
        if status not in OPEN_STATUSES:
            self.is_over = True
            yield ServerSentEvent(
                event="end", data={"execution": seen.run}, id=self._positions.write(position.ended)
            )
            return
        if (live := await self._waits()) is not None:
            yield live

    async def _read(self) -> tuple[str, feed.Look, RunPosition] | None:
        """Read what changed; everything where that is not known, or too much."""
        old = self._position
        async with self._watch.database.workspace(self._ids[0]) as session:
            seen = await feed.run_since(session, *self._ids, since=old.snapshot) if old is not None else None
            if seen is not None and old is not None and digest(seen.temporal_run_id) == old.temporal_run:
                return "changes", seen, _position(seen)
            seen = await feed.run(session, *self._ids)
        return ("snapshot", seen, _position(seen)) if seen is not None else None

    def _event(self, name: str, seen: feed.Look, position: RunPosition) -> ServerSentEvent | None:
        old, self._position = self._position, position
        if name == "snapshot":
            missing = max(seen.step_count - len(seen.steps), 0)
            told = {"execution": seen.run, "steps": seen.steps, "earlier_steps": missing}
            return ServerSentEvent(event=name, data=told, id=self._positions.write(position), retry=RETRY)
        is_same = old is not None and old.row == position.row
        if is_same and not seen.steps:
            return None
        told = {"execution": None if is_same else seen.run, "steps": seen.steps}
        return ServerSentEvent(event=name, data=told, id=self._positions.write(position))

    async def _waits(self) -> ServerSentEvent | None:
        """Tell what the run waits for, if that is something else than before; no place in the rows."""
        now = monotonic()
        self._is_owed = self._asked_at is not None and now < self._asked_at + LIVE_PACE
        if self._is_owed:
            return None
        self._asked_at = now
        try:
            seen = await self._watch.looks.look(*self._ids)
        except OUTAGES:
            return None
        # Another viewer may have looked before what this one is to tell of.
        self._is_owed = seen.began < self._watch.woken_at
        sight = seen.sight
        if sight is None:
            return None
        live = sight.live.model_dump(mode="json", exclude_none=True) if sight.live else None
        told = {"live": live, "live_missing": sight.missing}
        same = {**told, "live": {**live, "at": None} if live else None}
        if same == self._live:
            return None
        self._live = same
        return ServerSentEvent(event="live", data=told)


def _position(seen: feed.Look) -> RunPosition:
    return RunPosition(seen.snapshot, digest(seen.temporal_run_id), digest(seen.run))


# ── a workspace's runs


async def of_workspace(
    watch: Watch, positions: Positions, last_id: str | None = None
) -> AsyncGenerator[ServerSentEvent]:
    """Send which executions are new or have another status, until the client goes."""
    story = WorkspaceStory(watch, positions, last_id)
    while True:
        try:
            event = await story.news()
        except OUTAGES as error:
            log.warning("stream waits for the database", error=type(error).__name__)
        else:
            if event is not None:
                yield event
        await asyncio.sleep(PACE)
        if not await watch.wait():
            return


class WorkspaceStory:
    """What a viewer of a workspace has been told."""

    def __init__(self, watch: Watch, positions: Positions, last_id: str | None = None) -> None:
        self._watch = watch
        self._positions = positions
        position = positions.read_workspace(last_id)
        self._place = position.place if position is not None else None
        """Everything that was there then has been told; what was not may have been, too."""
        self._known: OrderedDict[str, str] = OrderedDict()
        """Digests of executions as they were last told; of the newest ones."""
        self._due: dict[UUID, None] = {}
        """Executions that there was news of."""
        self._is_behind = True
        """There may have been news that it was not woken for."""

    async def news(self) -> ServerSentEvent | None:
        """Tell of the executions that there was news of."""
        viewer = self._watch.viewer
        # From before the read: what comes meanwhile is read once more rather than not at all.
        heard, taken = viewer.place, viewer.take()
        self._is_behind = self._is_behind or taken is None or not viewer.is_told
        self._due.update(dict.fromkeys(taken or ()))
        if not self._is_behind and not self._due:
            return None
        async with self._watch.database.workspace(viewer.workspace_id) as session:
            name, place, found = await self._read(session, heard)
        self._place, self._is_behind = place, False
        self._due.clear()
        new = [run for run in found if self._is_new(run)]
        position = self._positions.write(WorkspacePosition(place))
        if name == "snapshot":
            return ServerSentEvent(event=name, data={"executions": found}, id=position, retry=RETRY)
        return ServerSentEvent(event=name, data={"executions": new}, id=position) if new else None

    async def _read(self, session: AsyncSession, heard: Place | None) -> tuple[str, Place, Runs]:
        """Read what there was news of; what changed since its place, if that is not known."""
        workspace_id, old = self._watch.viewer.workspace_id, self._place
        if old is not None and not self._is_behind:
            # One's own look may have been later than what was heard last.
            place = heard if heard is not None and heard.at > old.at else old
            return "changes", place, await feed.these(session, workspace_id, list(self._due))
        seen = await feed.runs_since(session, workspace_id, since=old) if old is not None else None
        if seen is not None:
            return "changes", seen.place, seen.runs
        seen = await feed.newest(session, workspace_id)
        return "snapshot", seen.place, seen.runs

    def _is_new(self, run: dict[str, Any]) -> bool:
        told = digest([run[name] for name in ("status", "status_reason", "error", "finished_at")])
        before = self._known.pop(run["id"], None)
        self._known[run["id"]] = told
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return told != before
