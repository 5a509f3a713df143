"""Carrying out the cancels that are written down: at once if Temporal answers, else when it is back."""

import asyncio
from collections import defaultdict
from uuid import UUID

import structlog
from temporalio.service import RPCError

from api.deps import Starter
from db import cancels, doors
from db.doors import Claim
from db.session import Database

log = structlog.get_logger()

AT_ONCE = 8
REASON = "cancelled through the API"


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
        by_workspace: dict[UUID, list[UUID]] = defaultdict(list)
        for claim, is_done in zip(claims, answered, strict=True):
            if is_done:
                by_workspace[claim.workspace_id].append(claim.execution_id)
        for workspace_id, execution_ids in by_workspace.items():
            async with self._database.workspace(workspace_id) as session:
                await cancels.done(session, workspace_id, execution_ids)

    async def _one(self, turns: asyncio.Semaphore, claim: Claim) -> bool:
        """Tell whether Temporal took it in, or has no such open run."""
        async with turns:
            try:
                await self._starter.cancel(claim.execution_id, reason=REASON)
            except (RPCError, RuntimeError, OSError) as error:
                ids = {"workspace_id": str(claim.workspace_id), "execution_id": str(claim.execution_id)}
                log.warning("cancel postponed", **ids, reason=str(error)[:200])
                return False
            return True
