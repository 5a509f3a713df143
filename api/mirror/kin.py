"""Keeps runs that wait for each other in touch where no code of theirs ran: a terminated run tells nobody.

Looks at rows, not at what happened: whatever is missed once is found by the next sweep (ADR 0013).
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.clients import runs
from db import cancels, children, doors
from db.doors import AwaitedExecution
from db.session import Database
from workflows.messages import Heard
from workflows.nodes.action_start_workflow import event_type

logger = logging.getLogger(__name__)

AT_ONCE = 200
AWAY = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


class Keeper:
    """Tells runs of the ends they wait for, and ends what nobody waits for any more."""

    def __init__(self, client: Client, database: Database, *, hint: Callable[[UUID], None]) -> None:
        self._client = client
        self._database = database
        self._hint = hint

    async def __call__(self) -> None:
        """Settle every awaited run that is over, or whose parent is; raises in an outage."""
        after: UUID | None = None
        while True:
            async with self._database.door() as session:
                found = await doors.awaited_executions(session, after=after, limit=AT_ONCE)
            for child in found:
                await self._try(child)
            if len(found) < AT_ONCE:
                return
            after = found[-1].execution_id

    async def _try(self, child: AwaitedExecution) -> None:
        """Settle one; what is wrong with it alone must not keep the others waiting."""
        try:
            await self._settle(child)
        except RPCError as error:
            if error.status in AWAY:
                raise
            ids = {"workspace_id": str(child.workspace_id), "execution_id": str(child.execution_id)}
            logger.warning("an awaited run cannot be settled", extra={**ids, "reason": error.message})

    async def _settle(self, child: AwaitedExecution) -> None:
        if child.is_open:
            await self._cancel(child)
        elif child.parent_is_open and child.parent_id is not None:
            told = Heard(type=event_type(child.execution_id), at=datetime.now(UTC))
            await runs.tell(self._client, child.parent_id, told)
            async with self._database.workspace(child.workspace_id) as session:
                await children.note_told(session, child.workspace_id, child.execution_id)
            self._hint(child.parent_id)
        else:
            async with self._database.workspace(child.workspace_id) as session:
                await children.collect(session, child.workspace_id, child.execution_id)

    async def _cancel(self, child: AwaitedExecution) -> None:
        reason = children.ENDED_WITH_PARENT
        async with self._database.workspace(child.workspace_id) as session:
            await cancels.ask(session, child.workspace_id, child.execution_id, reason=reason)
        await runs.cancel(self._client, child.execution_id, reason=reason)
        self._hint(child.execution_id)
