"""Starting runs: after the commit by the API, and by the dispatcher whatever stayed queued (design §4)."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from api.batches import Batches
from api.traffic import Traffic
from db import starts
from db.session import Database
from db.starts import Start
from workflows.messages import Command, ExecutionInput, Heard

log = structlog.get_logger()

OUTAGES = (RPCError, RuntimeError, OSError, DBAPIError, PoolTimeout)
"""A lazy Temporal client whose server is away raises RuntimeError."""
RPC_TIMEOUT = timedelta(seconds=5)
UPDATE_TIMEOUT = timedelta(seconds=10)
"""An update waits for a worker to take it in."""
PAUSE = 5.0
"""Seconds during which no start is tried after Temporal did not answer, unless it is heard of before."""
AT_ONCE = 4
"""Starts under way at once: more take the time of those who submit, and Temporal is no faster."""
NOTES = 64
"""Starts noted in one transaction."""


class Starter:
    """Starts and cancels the Temporal workflows of executions; an outage leaves the row queued."""

    def __init__(
        self,
        database: Database,
        temporal: Client,
        *,
        task_queue: str,
        hint: Callable[[UUID], None] = lambda execution_id: None,
        expect: Callable[[UUID], None] = lambda execution_id: None,
        traffic: Traffic | None = None,
    ) -> None:
        """Prepare; the mirror is told what moved (`hint`) and what began (`expect`)."""
        self._traffic = traffic or Traffic()
        self._database = database
        self._temporal = temporal
        self._task_queue = task_queue
        self._hint = hint
        self._expect = expect
        self._away_until = 0.0
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._notes = Batches[UUID, tuple[UUID, str | None], None](self._note, lanes=2, most=NOTES)
        self._left = Batches[UUID, UUID, None](self._release, lanes=1, most=NOTES)

    @property
    def is_away(self) -> bool:
        """Tell whether Temporal did not answer lately: a start would be in vain."""
        return monotonic() < self._away_until

    async def start(self, workspace_id: UUID, execution_id: UUID) -> bool:
        """Start a queued execution if Temporal can be reached; never raises for an outage."""
        async with self._turns:
            await self._traffic.give_way()
            if self.is_away:
                return False
            try:
                async with self._database.workspace(workspace_id) as session:
                    start = await starts.load(session, workspace_id, execution_id)
                return start is not None and await self._start(start)
            except OUTAGES as error:
                self._postpone(execution_id, error)
                return False

    async def launch(self, start: Start) -> bool:
        """Start an execution that was ordered just now and left to us; as `start`, without reading it."""
        async with self._turns:
            await self._traffic.give_way()
            try:
                if not self.is_away:
                    return await self._start(start)
            except OUTAGES as error:
                self._postpone(start.execution_id, error)
        with suppress(*OUTAGES):
            await self._left.add(start.workspace_id, start.execution_id)
        return False

    async def cancel(self, execution_id: UUID, *, reason: str) -> bool:
        """Ask Temporal to cancel a run; False if it knows no such open run.

        Raises RPCError or RuntimeError when Temporal cannot be reached.
        """
        handle = self._temporal.get_workflow_handle(workflow_id_of(execution_id))
        try:
            await handle.cancel(reason=reason, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            return _unless_not_found(error)
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
            return _unless_not_found(error)
        self._hint(execution_id)
        return True

    async def tell(self, execution_id: UUID, event: Heard) -> bool:
        """Tell a run of an event; False if there is no such open run. Raises as `command` in an outage."""
        handle = self._temporal.get_workflow_handle(workflow_id_of(execution_id))
        try:
            await handle.signal("event", event, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            return _unless_not_found(error)
        self._hint(execution_id)
        return True

    async def is_reachable(self) -> bool:
        """Tell whether Temporal answers."""
        try:
            answers = await self._temporal.service_client.check_health(timeout=timedelta(seconds=2))
        except (RPCError, RuntimeError):
            return False
        if answers:
            self._away_until = 0.0
        return answers

    def _postpone(self, execution_id: UUID, error: Exception) -> None:
        self._away_until = monotonic() + PAUSE
        log.warning("start postponed", execution_id=str(execution_id), reason=str(error)[:200])

    async def _start(self, start: Start) -> bool:
        run_id = await self._start_workflow(start.input, summary=start.workflow_name)
        self._expect(start.execution_id)
        await self._notes.add(start.workspace_id, (start.execution_id, run_id))
        return True

    async def _note(self, workspace_id: UUID, runs: Sequence[tuple[UUID, str | None]]) -> list[None]:
        async with self._database.workspace(workspace_id) as session:
            await starts.note_dispatched(session, workspace_id, dict(runs))
        return [None] * len(runs)

    async def _release(self, workspace_id: UUID, execution_ids: Sequence[UUID]) -> list[None]:
        async with self._database.workspace(workspace_id) as session:
            await starts.release(session, workspace_id, execution_ids)
        return [None] * len(execution_ids)

    async def _start_workflow(self, given: ExecutionInput, *, summary: str) -> str | None:
        try:
            handle = await self._temporal.start_workflow(
                "ExecutionWorkflow",
                given,
                id=workflow_id_of(given.execution_id),
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=search_attributes(given),
                static_summary=summary,
                rpc_timeout=RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError as error:
            return error.run_id
        return handle.result_run_id or handle.first_execution_run_id


def _unless_not_found(error: RPCError) -> bool:
    """Answer False for a run that is not there; anything else is an outage."""
    if error.status != RPCStatusCode.NOT_FOUND:
        raise error
    return False


def workflow_id_of(execution_id: UUID) -> str:
    """Name an execution's Temporal workflow."""
    return f"execution-{execution_id}"


def search_attributes(given: ExecutionInput) -> TypedSearchAttributes:
    """Name the run for operators; these stand in the clear, so they hold ids only."""
    values = {
        "FlowTrackWorkspaceId": str(given.workspace_id),
        "FlowTrackWorkflowId": str(given.workflow_id),
        "FlowTrackLeadId": str(given.lead_id) if given.lead_id else None,
        "FlowTrackTrigger": given.trigger_type,
    }
    return TypedSearchAttributes(
        [SearchAttributePair(SearchAttributeKey.for_keyword(k), v) for k, v in values.items() if v]
    )
