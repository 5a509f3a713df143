"""The jobs of UpkeepWorkflow; each may run late, twice or in parallel and does its work once."""

from temporalio import activity

from activities import sweeping
from activities.world import World
from db import clock, doors


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
        """Delete edges whose node is gone (ERD §6), expired idempotency keys, and what no history names."""
        async with self._database.door() as session:
            edges = await doors.prune_edges(session)
            keys = await doors.purge_idempotency_keys(session)
        runs = await sweeping.sweep(self._database, self._temporal)
        return {"edges": edges, "idempotency_keys": keys, "runs_without_history": runs}
