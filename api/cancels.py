"""Carrying out the cancels that are written down: at once if Temporal answers, else when it is back."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from uuid import UUID

import structlog
from temporalio.service import RPCError

from api.deps import Starter
from db import cancels, children, doors
from db.doors import Claim
from db.session import Database
from workflows.messages import Heard
from workflows.nodes.action_start_workflow import event_type

log = structlog.get_logger()

AT_ONCE = 8
REASON = "cancelled through the API"
OUTAGES = (RPCError, RuntimeError, OSError)


class Cancels:
    """Asks Temporal for what the rows say; asking twice does no harm."""

    def __init__(self, database: Database, starter: Starter) -> None:
        self._database = database
        self._starter = starter

    async def carry_out(self, *, limit: int, stale_seconds: float) -> int:
        """Take due cancels of all workspaces and ask Temporal; return how many were taken."""
        async with self._database.door() as session:
            claimed = await doors.claim_cancels(session, limit=limit, stale_seconds=stale_seconds)
        await self._ask(claimed)
        return len(claimed)

    async def ask(self, workspace_id: UUID, execution_id: UUID) -> None:
        """Ask Temporal for one; in an outage the row keeps it for the dispatcher."""
        await self._ask([Claim(workspace_id, execution_id)])

    async def _ask(self, claims: list[Claim]) -> None:
        turns = asyncio.Semaphore(AT_ONCE)
        answered = await asyncio.gather(*(self._one(turns, claim) for claim in claims))
        asked, unknown = defaultdict[UUID, list[UUID]](list), defaultdict[UUID, list[UUID]](list)
        for claim, is_open in zip(claims, answered, strict=True):
            if is_open is not None:
                asked[claim.workspace_id].append(claim.execution_id)
            if is_open is False:
                unknown[claim.workspace_id].append(claim.execution_id)
        for workspace_id, execution_ids in asked.items():
            async with self._database.workspace(workspace_id) as session:
                await cancels.done(session, workspace_id, execution_ids, unknown=unknown[workspace_id])
        for workspace_id, execution_ids in unknown.items():
            await self._tell_parents(workspace_id, execution_ids)

    async def _one(self, turns: asyncio.Semaphore, claim: Claim) -> bool | None:
        """Tell whether Temporal has such an open run, and so cancels it; None if it is away."""
        async with turns:
            try:
                return await self._starter.cancel(claim.execution_id, reason=REASON)
            except OUTAGES as error:
                ids = {"workspace_id": str(claim.workspace_id), "execution_id": str(claim.execution_id)}
                log.warning("cancel postponed", **ids, reason=str(error)[:200])
                return None

    async def _tell_parents(self, workspace_id: UUID, execution_ids: list[UUID]) -> None:
        """Wake the runs that wait for runs that never began: those have no code that could tell them."""
        async with self._database.workspace(workspace_id) as session:
            waiting = await children.withdrawn(session, workspace_id, execution_ids)
        for execution_id, parent_id in waiting.items():
            heard = Heard(type=event_type(execution_id), at=datetime.now(UTC))
            try:
                await self._starter.tell(parent_id, heard)
            except OUTAGES as error:
                # The mirror's next sweep finds it.
                ids = {"workspace_id": str(workspace_id), "execution_id": str(parent_id)}
                log.warning("parent not told", **ids, reason=str(error)[:200])
