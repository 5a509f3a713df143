"""Looks at runs, shared by all who watch them: a run with a hundred viewers costs what one with one does."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

from api.live.describer import Describer
from api.live.sight import Sight, look
from db.session import Database

FRESH = 1.0
"""Seconds during which a look is good enough for the next viewer, too."""

Key = tuple[UUID, UUID]


@dataclass(frozen=True)
class Seen:
    """What a look saw, and when it began (`monotonic`): of what happened later it knows nothing."""

    began: float
    sight: Sight | None


class Looks:
    """Looks at runs, at each at most once in `FRESH` seconds."""

    def __init__(self, database: Database, describer: Describer) -> None:
        self._database, self._describer = database, describer
        self._tasks: OrderedDict[Key, tuple[float, asyncio.Task[Sight | None]]] = OrderedDict()
        """The newest look at each run, by when it began."""

    async def look(self, workspace_id: UUID, execution_id: UUID) -> Seen:
        """Look at a run, or take a look that is under way or fresh. Raises as the database does."""
        self._forget(monotonic() - FRESH)
        key = workspace_id, execution_id
        if key not in self._tasks:
            task = asyncio.create_task(look(self._database, self._describer, *key))
            # Whoever waited may be gone by the time it fails.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._tasks[key] = monotonic(), task
        began, task = self._tasks[key]
        return Seen(began, await asyncio.shield(task))

    def _forget(self, before: float) -> None:
        while self._tasks:
            key, (began, _) = next(iter(self._tasks.items()))
            if began > before:
                return
            del self._tasks[key]
