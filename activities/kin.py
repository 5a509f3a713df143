"""Ending the runs that nobody waits for any more."""

from uuid import UUID

from temporalio import activity

from activities.clients import runs
from activities.world import World
from db import cancels, children
from workflows.messages import Kin


class Relations:
    """What a run does about its relations to other runs when it ends."""

    def __init__(self, world: World) -> None:
        self._world = world

    @activity.defn(name="cancel_awaited")
    async def cancel_awaited(self, asked: Kin) -> int:
        """Cancel the open runs that steps of a run wait for; those that never began are withdrawn."""
        async with self._world.database.workspace(asked.workspace_id) as session:
            of = asked.workspace_id, asked.execution_id
            awaited = await children.awaited_by(session, *of, step=asked.step)
        for execution_id in awaited:
            await self._cancel(asked, execution_id)
        return len(awaited)

    async def _cancel(self, asked: Kin, execution_id: UUID) -> None:
        reason = children.ENDED_WITH_PARENT
        async with self._world.database.workspace(asked.workspace_id) as session:
            await cancels.ask(session, asked.workspace_id, execution_id, reason=reason)
            if asked.step is not None:
                # The run goes on, and is not to be told of an end that it no longer waits for.
                await children.collect(session, asked.workspace_id, execution_id)
        # A start may have been under way while the row was withdrawn, so Temporal is asked in any case.
        await runs.cancel(self._world.temporal, execution_id, reason=reason)
