"""One execution as a follower knows it: where it stands, what it projects, how that is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.mirror.events import Event, RunEnded, Started, WasReset
from api.mirror.pages import Pages
from api.mirror.projection import Projection
from api.mirror.rows import LogRow, plain
from db import logs, mirrors
from db.jsonb import storable
from db.mirrors import Cursor, Page, Position
from db.session import Single

HEAVY = 50
"""Lines in one statement that may hold a step's input and output each."""


class Overtaken(Exception):
    """Another transaction came first, another mirror's or one that deleted a node; nothing was written."""


class Foreign(Exception):
    """The execution is not in this database."""


@dataclass
class Track:
    """One execution as this follower knows it."""

    execution_id: UUID
    workspace_id: UUID
    workflow_id: UUID
    position: Position
    projection: Projection
    is_stored: bool
    """Its cursor is in the database."""

    @property
    def is_over(self) -> bool:
        """Tell whether the execution has ended; with a run that is continued as new it has not."""
        ended = self.projection.ended
        return ended is not None and not ended.next_run_id

    @property
    def is_short(self) -> bool:
        """Tell whether one statement writes all that is new."""
        return self.projection.pages.lines <= logs.AT_ONCE

    def cursor(self) -> Cursor:
        """Say where the mirror stands; what is over needs no state."""
        state = {} if self.is_over else self.projection.frozen()
        return Cursor(self.position, storable(state), self.is_over)

    def turn_over(self, run_id: str) -> None:
        """Go on with the run that continues this one."""
        projection = self.projection
        self.projection = Projection(projection.pages, run_id=run_id, state=projection.carried())
        self.position = Position(run_id, 0)


@dataclass(frozen=True)
class Chapter:
    """One run of an execution, read as a whole."""

    run_id: str
    events: list[Event]
    last_event_id: int

    @property
    def start(self) -> Started:
        """Give the run's first event."""
        first = self.events[0]
        if not isinstance(first, Started):
            raise TypeError(f"run {self.run_id} begins with {type(first).__name__}")
        return first

    @property
    def resets(self) -> list[WasReset]:
        """List the resets that led to this run."""
        return [event for event in self.events if isinstance(event, WasReset)]

    @property
    def next_run_id(self) -> str:
        """Name the run that continues this one, if one does."""
        last = self.events[-1]
        return last.next_run_id if isinstance(last, RunEnded) else ""


def opened(execution_id: UUID, chapter: Chapter, *, verbose: bool) -> Track:
    """Stand before an execution's first event."""
    given = chapter.start.input
    projection = Projection(Pages(execution_id, verbose=verbose), run_id=chapter.run_id)
    ids = execution_id, given.workspace_id, given.workflow_id
    return Track(*ids, Position(chapter.run_id, 0), projection, is_stored=False)


async def write(session: AsyncSession | Single, track: Track, old: Position | None) -> None:
    """Write what the track's pages hold and move its cursor; raises Overtaken if that was not at `old`."""
    ids = track.workspace_id, track.execution_id
    changes = track.projection.pages.take()
    lines = [plain(row) for row in changes.logs]
    page = Page(
        workflow_id=track.workflow_id,
        cursor=track.cursor(),
        execution=storable(changes.execution),
        steps=[plain(row) for row in changes.steps.values()],
        logs=lines[: logs.AT_ONCE],
    )
    if not await mirrors.write(session, *ids, old=old, page=page):
        raise Overtaken
    rest = [{**line, "execution_id": str(track.execution_id)} for line in lines[logs.AT_ONCE :]]
    await logs.add(session, track.workspace_id, rest, source="history")
    track.is_stored = True


async def keep(session: AsyncSession, track: Track, replaced: Sequence[LogRow]) -> None:
    """Write the lines that tell what a reset superseded; they stay when their run is gone from Temporal."""
    rows = [{**plain(row), "execution_id": str(track.execution_id)} for row in replaced]
    for start in range(0, len(rows), HEAVY):
        part = rows[start : start + HEAVY]
        await logs.add(session, track.workspace_id, part, source="superseded")
