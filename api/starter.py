"""Starting runs: after the commit by the API, and by the dispatcher whatever stayed queued (design §4)."""

from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.service import RPCError

from activities.clients import runs
from activities.clients.runs import unless_not_found, workflow_id_of
from db.session import Database
from workflows.messages import Command, Heard

log = structlog.get_logger()

UPDATE_TIMEOUT = timedelta(seconds=10)
"""An update waits for a worker to take it in."""
PAUSE = 1.0
"""Seconds during which no start is tried after Temporal did not answer; the dispatcher catches up."""


class Starter:
    """Starts and cancels the Temporal workflows of executions; an outage leaves the row queued."""

    def __init__(
        self,
        database: Database,
        temporal: Client,
        *,
        task_queue: str,
        hint: Callable[[UUID], None] = lambda execution_id: None,
    ) -> None:
        self._database = database
        self._temporal = temporal
        self._task_queue = task_queue
        self._hint = hint
        self._away_until = 0.0

    async def start(self, workspace_id: UUID, execution_id: UUID) -> bool:
        """Start a queued execution if Temporal can be reached; never raises for an outage."""
        if monotonic() < self._away_until:
            return False
        try:
            return await self._start(workspace_id, execution_id)
        except (RPCError, RuntimeError, OSError, DBAPIError, PoolTimeout) as error:
            self._away_until = monotonic() + PAUSE
            log.warning("start postponed", execution_id=str(execution_id), reason=str(error)[:200])
            return False

    async def cancel(self, execution_id: UUID, *, reason: str) -> bool:
        """Ask Temporal to cancel a run; False if it knows no such open run.

        Raises RPCError or RuntimeError when Temporal cannot be reached.
        """
        if not await runs.cancel(self._temporal, execution_id, reason=reason):
            return False
        self._hint(execution_id)
        return True

    async def command(self, execution_id: UUID, name: str, command: Command) -> bool:
        """Have a run carry an update out; False if there is no such open run.

        Raises ApplicationError when its validator refuses, RPCError or RuntimeError in an outage.
        """
        handle = self._temporal.get_workflow_handle(workflow_id_of(execution_id))
        try:
            await handle.execute_update(name, command, rpc_timeout=UPDATE_TIMEOUT)
        except WorkflowUpdateFailedError as refusal:
            raise refusal.cause from refusal
        except RPCError as error:
            return unless_not_found(error)
        self._hint(execution_id)
        return True

    async def tell(self, execution_id: UUID, event: Heard) -> bool:
        """Tell a run of an event; False if there is no such open run. Raises as `command` in an outage."""
        if not await runs.tell(self._temporal, execution_id, event):
            return False
        self._hint(execution_id)
        return True

    async def is_reachable(self) -> bool:
        """Tell whether Temporal answers."""
        try:
            return await self._temporal.service_client.check_health(timeout=timedelta(seconds=2))
        except (RPCError, RuntimeError):
            return False

    async def _start(self, workspace_id: UUID, execution_id: UUID) -> bool:
        started = await runs.start(
            self._database, self._temporal, workspace_id, execution_id, task_queue=self._task_queue
        )
        if started:
            self._hint(execution_id)
        return started
