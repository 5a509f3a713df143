"""Reads all the runs that make up an execution's story, and those that resets took out of it."""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from api.mirror.events import WasReset
from api.mirror.history import Histories, UnknownRun
from api.mirror.resets import superseded
from api.mirror.rows import LogRow
from api.mirror.track import Chapter


class Stories:
    """Reads whole runs, as far as Temporal still has them."""

    def __init__(self, histories: Histories, *, verbose: bool) -> None:
        self._histories = histories
        self._verbose = verbose

    async def read(self, execution_id: UUID, run_id: str) -> list[Chapter]:
        """Read the runs that led to this one, oldest first; raises UnknownRun if it is gone itself."""
        story: list[Chapter] = []
        while run_id:
            try:
                story.insert(0, await self._chapter(execution_id, run_id))
            except UnknownRun:
                if not story:
                    raise
                break
            run_id = story[0].start.continued_from
        return story

    async def replaced(
        self, execution_id: UUID, story: list[Chapter], *, others: Sequence[str]
    ) -> list[LogRow]:
        """Read what resets took back, resets of resets included, and others, which nothing leads to."""
        lines: list[LogRow] = []
        waiting, done = [reset for chapter in story for reset in chapter.resets], set[tuple[str, int]]()
        left, read = deque(others), {chapter.run_id for chapter in story}
        while waiting or left:
            if not waiting:
                # Nothing that counts was made of it.
                if (other := left.popleft()) not in read:
                    read.add(other)
                    waiting += await self._passed_over(execution_id, other)
                continue
            reset = waiting.pop()
            place = (reset.base_run_id, reset.id)
            if place in done:
                continue
            done.add(place)
            with suppress(UnknownRun):
                base = await self._with_what_followed(execution_id, reset.base_run_id)
                read |= {chapter.run_id for chapter in base}
                lines += superseded(execution_id, base, reset, verbose=self._verbose)
                waiting += [earlier for chapter in base for earlier in chapter.resets]
        return lines

    async def _passed_over(self, execution_id: UUID, run_id: str) -> list[WasReset]:
        """Take a run back as a whole that no later one was made of: its own base was reset once more."""
        with suppress(UnknownRun):
            chapter = await self._chapter(execution_id, run_id)
            first = chapter.resets[-1] if chapter.resets else chapter.start
            return [WasReset(first.id, first.at, run_id="", base_run_id=run_id)]
        return []

    async def _with_what_followed(self, execution_id: UUID, run_id: str) -> list[Chapter]:
        story = await self.read(execution_id, run_id)
        with suppress(UnknownRun):
            while following := story[-1].next_run_id:
                story.append(await self._chapter(execution_id, following))
        return story

    async def _chapter(self, execution_id: UUID, run_id: str) -> Chapter:
        raw = await self._histories.since(execution_id, run_id, event_id=0)
        return Chapter(run_id, await self._histories.decode(raw), raw[-1].event_id)
