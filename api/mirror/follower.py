"""Follows executions: reads what history added, projects it, writes rows and cursor in one transaction."""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from psycopg.errors import ForeignKeyViolation
from sqlalchemy.exc import IntegrityError
from structlog.contextvars import bind_contextvars

from activities.clients.keyring import KeyGone
from api.metrics import Metrics
from api.mirror.events import Event
from api.mirror.history import Histories, UnknownRun
from api.mirror.pages import Pages
from api.mirror.projection import Projection
from api.mirror.rows import LogRow
from api.mirror.state import State
from api.mirror.stories import Stories
from api.mirror.track import Chapter, Foreign, Overtaken, Track, keep, opened, write
from db import doors, executions, logs, mirrors, steps
from db.mirrors import Cursor, Position
from db.session import Database

logger = logging.getLogger(__name__)

Kept = TypeVar("Kept")

KEPT = 256
"""Open executions whose projection stays in memory; the others are read from their cursor again."""
REMEMBERED = 10_000
"""Closed executions that are known to be mirrored."""


class Superseded(Exception):
    """The run was reset: another one has taken its place."""


@dataclass(frozen=True)
class End:
    """The last run of an execution that is mirrored to its end."""

    run_id: str
    at: datetime | None = None
    """When it closed, if that is known."""


@dataclass(frozen=True)
class Look:
    """What a look at an execution found."""

    advanced: bool = False
    closed: bool = False
    closed_at: datetime | None = None
    """When it closed, if this look found out."""
    missing: bool = False
    """Temporal has no run of it."""
    is_told: bool = False
    """Whoever ends it, Temporal tells of it."""
    has_kin: bool = False
    """It closed, and there may be a run that waits for it, or for which it waited."""

    @property
    def is_untold(self) -> bool:
        """Tell whether it is open and its close might go unheard."""
        return not (self.closed or self.missing or self.is_told)

    @property
    def found(self) -> str:
        """Say in a word what the look found."""
        words = {"missing": self.missing, "advanced": self.advanced, "closed": self.closed}
        return next((word for word, holds in words.items() if holds), "nothing")


class Follower:
    """Brings the rows of an execution up to its history; any number of followers may run (design §7)."""

    def __init__(
        self,
        histories: Histories,
        database: Database,
        *,
        verbose: bool = False,
        metrics: Metrics | None = None,
    ) -> None:
        self._histories = histories
        self._metrics = metrics or Metrics()
        self._database = database
        self._verbose = verbose
        self._stories = Stories(histories, verbose=verbose)
        self._tracks: OrderedDict[UUID, Track] = OrderedDict()
        self._closed: OrderedDict[UUID, End] = OrderedDict()
        self._foreign: OrderedDict[UUID, bool] = OrderedDict()

    async def look(self, execution_id: UUID) -> Look:
        """Mirror what happened since the last look; run it as a task, whose lines then name its run."""
        bind_contextvars(execution_id=str(execution_id))
        if execution_id in self._foreign:
            return Look(closed=True)
        try:
            return await self._look(execution_id)
        except UnknownRun:
            return Look(missing=True)
        except Overtaken:
            # The other mirror wrote these very rows; the next look starts from its cursor.
            return Look(advanced=True)
        except KeyGone:
            logger.warning(
                "mirror: the key of this run's history is gone", extra={"execution_id": str(execution_id)}
            )
        except Foreign:
            pass
        remember(self._foreign, execution_id, True, most=REMEMBERED)
        return Look(closed=True)

    async def rebuild(self, execution_id: UUID) -> bool:
        """Delete the rows that history can tell again, and project them from zero.

        False, and nothing is touched, when Temporal no longer has the whole history.
        """
        while True:
            try:
                known, story = await self._story(execution_id)
                if story[0].start.continued_from:
                    return False
                await self._rewrite(execution_id, known, story)
            except (UnknownRun, Foreign):
                return False
            except Overtaken:
                # What was read may be older than what the other mirror wrote.
                continue
            return True

    def knows(self, execution_id: UUID, *, run_id: str = "", closed_at: datetime | None = None) -> bool:
        """Tell whether this is no news: that run, or whatever closed by then, is mirrored to its end.

        A run that took its place by a reset has another id, and closes later.
        """
        if execution_id in self._foreign:
            return True
        end = self._closed.get(execution_id)
        if end is None or end.run_id == run_id:
            return end is not None
        return end.at is not None and closed_at is not None and end.at >= closed_at

    async def _look(self, execution_id: UUID) -> Look:
        # Taken out while it is worked on: a second look, or one after a failure, reads the stored cursor.
        track = self._tracks.pop(execution_id, None)
        if track is None:
            return await self._greet(execution_id) or await self._resume(execution_id)
        return await self._advance(track)

    async def _greet(self, execution_id: UUID) -> Look | None:
        """Take on a run that is new to every mirror; None if it may not be."""
        if execution_id in self._closed:
            return None
        page = await self._histories.newest(execution_id)
        if not page.is_whole:
            return None
        chapter = Chapter("", await self._histories.decode(page.events), page.events[-1].event_id)
        if chapter.start.continued_from or chapter.resets:
            return None
        track = opened(execution_id, chapter, verbose=self._verbose)
        try:
            await self._take_in(track, chapter.events, chapter.last_event_id)
        except (Overtaken, Superseded):
            return None
        return self._look_of(track, advanced=True)

    async def _resume(self, execution_id: UUID) -> Look:
        """Go on from the stored cursor, or begin at the beginning."""
        current = await self._histories.current(execution_id)
        workspace_id, cursor = await self._stored(execution_id)
        if cursor is None or (cursor.closed and cursor.position.run_id != current.run_id):
            return await self._retell(execution_id)
        if cursor.closed:
            remember(self._closed, execution_id, End(current.run_id, current.closed_at), most=REMEMBERED)
            return Look(closed=True)
        try:
            look = await self._advance(await self._thaw(execution_id, workspace_id, cursor))
        except UnknownRun:
            # The run it stands in has expired, while the one that continues it is still there.
            return await self._retell(execution_id)
        if look.closed and not self.knows(execution_id, run_id=current.run_id):
            # It closed, and yet there is another run: it was reset after its end.
            return await self._retell(execution_id)
        return look

    async def _advance(self, track: Track) -> Look:
        """Read and take in what came after the cursor, over the end of a run into the next one."""
        advanced = False
        while True:
            at = track.position
            raw = await self._histories.since(track.execution_id, at.run_id, event_id=at.event_id)
            if not raw:
                return self._look_of(track, advanced=advanced)
            try:
                await self._take_in(track, await self._histories.decode(raw), raw[-1].event_id)
            except Superseded:
                return await self._retell(track.execution_id)
            if track.position.event_id:
                return self._look_of(track, advanced=True)
            advanced = True

    async def _take_in(self, track: Track, events: list[Event], last_event_id: int) -> None:
        old = track.position if track.is_stored else None
        bind_contextvars(workspace_id=str(track.workspace_id))
        track.projection.apply(events)
        ended = track.projection.ended
        if ended is not None and ended.was_reset:
            raise Superseded
        track.position = Position(track.projection.run_id, last_event_id)
        if ended is not None and ended.next_run_id:
            track.turn_over(ended.next_run_id)
        async with self._guarded(track):
            if track.is_short:
                await write(self._database.single(track.workspace_id), track, old)
            else:
                async with self._database.workspace(track.workspace_id) as session:
                    await write(session, track, old)
        if events:
            self._metrics.mirrored(events[0].at)

    # ── the whole story

    async def _story(self, execution_id: UUID) -> tuple[Position | None, list[Chapter]]:
        """Read where the mirror stands, and after that, so that it is not older, the whole story."""
        _, cursor = await self._stored(execution_id)
        current = await self._histories.current(execution_id)
        story = await self._stories.read(execution_id, current.run_id)
        return cursor.position if cursor else None, story

    async def _replaced(
        self, execution_id: UUID, known: Position | None, story: list[Chapter]
    ) -> list[LogRow]:
        """Tell what resets took back: of runs before these, of the one that is mirrored and of all others.

        Only a list of its runs tells of one whose base was reset once more: nothing leads there.
        """
        if not any(chapter.resets for chapter in story):
            return []
        others = [*await self._histories.runs(execution_id), *([known.run_id] if known else [])]
        current = await self._histories.current(execution_id)
        if current.run_id != story[-1].run_id:
            # One of the others may be the run that counts by now.
            raise Overtaken
        return await self._stories.replaced(execution_id, story, others=others)

    async def _retell(self, execution_id: UUID) -> Look:
        """Begin at the beginning."""
        return await self._rewrite(execution_id, *await self._story(execution_id))

    async def _rewrite(self, execution_id: UUID, known: Position | None, story: list[Chapter]) -> Look:
        """Write the rows of a whole story in place of what was there, if the cursor still is where it was."""
        replaced = await self._replaced(execution_id, known, story)
        track = opened(execution_id, story[0], verbose=self._verbose)
        for chapter in story:
            if chapter is not story[0]:
                track.turn_over(chapter.run_id)
            track.projection.apply(chapter.events)
            track.position = Position(chapter.run_id, chapter.last_event_id)
        ended = track.projection.ended
        if ended is not None and ended.was_reset:
            raise Overtaken
        if ended is not None and ended.next_run_id:
            track.turn_over(ended.next_run_id)
        async with self._guarded(track), self._database.workspace(track.workspace_id) as session:
            if await mirrors.hold(session, track.workspace_id, execution_id) != known:
                raise Overtaken
            if await executions.lock(session, track.workspace_id, execution_id) is None:
                raise Foreign
            if not story[0].start.continued_from:
                await logs.forget(session, track.workspace_id, execution_id)
                await steps.forget(session, track.workspace_id, execution_id)
            await mirrors.forget(session, track.workspace_id, execution_id)
            await write(session, track, None)
            await keep(session, track, replaced)
        return self._look_of(track, advanced=True)

    @asynccontextmanager
    async def _guarded(self, track: Track) -> AsyncIterator[None]:
        """Raise Foreign or Overtaken where a track's rows have lost their hold."""
        try:
            yield
        except IntegrityError as error:
            async with self._database.door() as session:
                if await doors.execution(session, track.execution_id) is None:
                    raise Foreign from error
            if isinstance(error.orig, ForeignKeyViolation):
                # A step's node was deleted while its row was written; the next look finds it without.
                raise Overtaken from error
            raise

    # ── tracks

    async def _stored(self, execution_id: UUID) -> tuple[UUID, Cursor | None]:
        async with self._database.door() as session:
            workspace_id = await doors.execution(session, execution_id)
        if workspace_id is None:
            raise Foreign
        bind_contextvars(workspace_id=str(workspace_id))
        async with self._database.workspace(workspace_id) as session:
            return workspace_id, await mirrors.load(session, workspace_id, execution_id)

    async def _thaw(self, execution_id: UUID, workspace_id: UUID, cursor: Cursor) -> Track:
        """Go on from a stored cursor; the run's first event holds what was not worth storing twice."""
        at = cursor.position
        event = await self._histories.first(execution_id, at.run_id)
        given = Chapter(at.run_id, await self._histories.decode([event]), event.event_id).start.input
        pages = Pages(execution_id, verbose=self._verbose)
        state = State.model_validate(cursor.state)
        projection = Projection(pages, run_id=at.run_id, state=state, start=given if at.event_id else None)
        return Track(execution_id, workspace_id, given.workflow_id, at, projection, is_stored=True)

    def _look_of(self, track: Track, *, advanced: bool = False) -> Look:
        """Keep what the next look needs."""
        ended = track.projection.ended
        if track.is_over:
            end = End(track.position.run_id, ended.at if ended else None)
            remember(self._closed, track.execution_id, end, most=REMEMBERED)
        else:
            remember(self._tracks, track.execution_id, track, most=KEPT)
        return Look(
            advanced=advanced,
            closed=track.is_over,
            closed_at=ended.at if ended else None,
            is_told=track.projection.state.is_told,
            has_kin=track.is_over and track.projection.has_kin,
        )


def remember(kept: OrderedDict[UUID, Kept], execution_id: UUID, value: Kept, *, most: int) -> None:
    """Keep a value, and no more than so many."""
    kept[execution_id] = value
    kept.move_to_end(execution_id)
    while len(kept) > most:
        kept.popitem(last=False)
