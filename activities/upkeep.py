"""The jobs of UpkeepWorkflow; each may run late, twice or in parallel and does its work once."""

from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities import sweeping
from activities.clients import cluster
from activities.world import World
from db import clock, doors

BATCH = 10_000
KEPT = timedelta(days=90)
"""How long a run can surely not be reset any more when it is forgotten; as long as its log (ERD §15)."""
LATE = timedelta(days=7)
"""By how much Temporal may be late in deleting a history."""


class Upkeep:
    """Keeps an installation in order."""

    def __init__(self, world: World) -> None:
        self._database, self._temporal = world.database, world.temporal

    @activity.defn(name="roll_quotas")
    async def roll_quotas(self) -> int:
        """Open the successors of every quota period that has ended; return how many (ERD §18)."""
        opened = 0
        while True:
            async with self._database.door() as session:
                more = await doors.roll_quotas(session, await clock.today(session))
            if more == 0:
                return opened
            opened += more

    @activity.defn(name="keep_log_partitions")
    async def keep_log_partitions(self) -> list[str]:
        """Make the months ahead and drop those past their 90 days; return what was done (ERD §15)."""
        async with self._database.door() as session:
            return await doors.log_partitions(session, await clock.today(session))

    @activity.defn(name="tidy")
    async def tidy(self) -> dict[str, int]:
        """Delete edges whose node is gone (ERD §6), expired idempotency keys, and what no history needs."""
        async with self._database.door() as session:
            edges = await doors.prune_edges(session)
        keys, more = 0, BATCH
        while more == BATCH:
            async with self._database.door() as session:
                more = await doors.purge_idempotency_keys(session, limit=BATCH)
            keys += more
        large = await sweeping.sweep(self._database, self._temporal)
        told = {"edges": edges, "idempotency_keys": keys, "large_payloads_of_runs": large}
        return {**told, "runs": await self._forget_runs()}

    async def _forget_runs(self) -> int:
        """Forget the effects and cursors of runs whose history Temporal has deleted (ADR 0024)."""
        kept = await cluster.retention(self._temporal)
        if kept is None:
            return 0
        ended_before, forgotten, more = datetime.now(UTC) - max(KEPT, kept + LATE), 0, 1
        while more:
            async with self._database.door() as session:
                more = await doors.forget_runs(session, ended_before=ended_before)
            forgotten += more
        return forgotten
