"""The sweep: finds what every hint missed, through visibility and through our own open rows (design §7)."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from api.mirror.follower import Follower, Look
from api.mirror.history import Histories, UnknownRun
from api.mirror.kin import Keeper
from api.mirror.pace import Pace
from db import doors, executions, steps
from db.doors import OpenExecution, Seen
from db.session import Database

logger = logging.getLogger(__name__)

AT_ONCE = 200


class Sweep:
    """Looks at what closed, or was reset, unmirrored, and at open executions that nothing was heard of."""

    def __init__(
        self,
        follower: Follower,
        histories: Histories,
        database: Database,
        *,
        pace: Pace,
        hint: Callable[[UUID], None],
        keep: Keeper,
        ask: Callable[[UUID], Awaitable[bool]],
    ) -> None:
        """Prepare; `ask` has Temporal tell of an open run's close."""
        self._follower = follower
        self._histories = histories
        self._database = database
        self._pace = pace
        self._hint = hint
        self._keep = keep
        self._ask = ask
        self._watermark = datetime.now(UTC) - pace.reach

    async def __call__(self, *, everything: bool = False) -> None:
        """Sweep once; `everything` looks at all open executions, however lately they were looked at."""
        began = datetime.now(UTC)
        async for page in self._histories.moved_since(self._watermark - self._pace.overlap):
            await self._hint_at(page)
        self._watermark = began
        await self._look_at_open(began, self._pace.silence if not everything else timedelta())
        await self._keep()

    async def _hint_at(self, page: Sequence[Seen]) -> None:
        """Hint at what is ours and not mirrored to its end; one statement, whoever's runs they are."""
        news = [run for run in page if not self._follower.knows(run.execution_id, run_id=run.run_id)]
        if not news:
            return
        async with self._database.door() as session:
            found = await doors.unmirrored(session, news)
        for execution_id in found:
            self._hint(execution_id)

    async def _look_at_open(self, began: datetime, silence: timedelta) -> None:
        while True:
            # Whoever was looked at since the beginning is not listed again.
            silent_for = max(silence, datetime.now(UTC) - began)
            async with self._database.door() as session:
                found = await doors.open_executions(session, silent_for=silent_for, limit=AT_ONCE)
            await self._look_at(found)
            if len(found) < AT_ONCE:
                return

    async def _look_at(self, found: Sequence[OpenExecution]) -> None:
        slots = asyncio.Semaphore(self._pace.concurrency)

        async def look(row: OpenExecution) -> Look:
            async with slots:
                looked = await self._follower.look(row.execution_id)
                if looked.is_untold and not await self._ask(row.execution_id):
                    self._hint(row.execution_id)
                return looked

        looks = await asyncio.gather(*map(look, found), return_exceptions=True)
        failed = [looked for looked in looks if isinstance(looked, BaseException)]
        if failed and len(failed) == len(looks):
            raise failed[0]
        unchanged: dict[UUID, list[UUID]] = defaultdict(list)
        for row, looked in zip(found, looks, strict=True):
            if isinstance(looked, BaseException):
                # One that cannot be read must not keep the others from being looked at.
                self._hint(row.execution_id)
            elif looked.advanced:
                self._alarm(row, looked)
                continue
            elif looked.missing:
                await self._lose(row)
            unchanged[row.workspace_id].append(row.execution_id)
        for workspace_id, execution_ids in unchanged.items():
            async with self._database.workspace(workspace_id) as session:
                await executions.touch(session, workspace_id, execution_ids)

    def _alarm(self, row: OpenExecution, looked: Look) -> None:
        if looked.closed_at is not None and datetime.now(UTC) - looked.closed_at > self._pace.alarm_after:
            logger.error(
                "mirrored late: Temporal might have forgotten the run",
                extra={**ids_of(row), "closed_at": looked.closed_at.isoformat()},
            )

    async def _lose(self, row: OpenExecution) -> None:
        """Fail an execution whose run is gone, if Temporal itself says so."""
        try:
            await self._histories.current(row.execution_id)
        except UnknownRun:
            pass
        else:
            return
        ids = row.workspace_id, row.execution_id
        async with self._database.workspace(row.workspace_id) as session:
            if not await executions.lose(session, *ids, dispatched_for=self._pace.lost_after):
                return
            await steps.cancel_open(session, *ids)
        logger.error("Temporal has lost a run", extra=ids_of(row))


def ids_of(row: OpenExecution) -> dict[str, str]:
    """Name a run in a log line."""
    return {"workspace_id": str(row.workspace_id), "execution_id": str(row.execution_id)}
