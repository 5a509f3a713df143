"""Starting runs: after the commit by the API, and by the dispatcher whatever stayed queued (design §4)."""

from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from uuid import UUID

import structlog
from pydantic import ValidationError
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

from db import runs, starts
from db.session import Database
from workflows.messages import Command, ExecutionInput, Heard

log = structlog.get_logger()

RPC_TIMEOUT = timedelta(seconds=5)
UPDATE_TIMEOUT = timedelta(seconds=10)
"""An update waits for a worker to take it in."""
PAUSE = 1.0
"""Seconds during which no start is tried after Temporal did not answer; the dispatcher catches up."""

TOO_MUCH = (RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.RESOURCE_EXHAUSTED)
"""What Temporal says to more than it takes, and also to other things."""
START_CAP = 2 * 1024 * 1024 - 4096
"""Bytes of the first event's input that Temporal takes."""
TOO_LARGE = (
    "The trigger's data and the graph together have {size:,} bytes; a run begins with at most {cap:,}. "
    "Send less, or keep large texts out of the nodes."
)


class NotStartable(Exception):
    """A run can never begin as it is: waiting would change nothing."""

    def __init__(self, type_: str, message: str) -> None:
        super().__init__(message)
        self.type = type_


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
        except NotStartable as refusal:
            await self._refuse(workspace_id, execution_id, refusal)
            return False
        except (RPCError, RuntimeError, OSError, DBAPIError, PoolTimeout) as error:
            self._away_until = monotonic() + PAUSE
            log.warning("start postponed", execution_id=str(execution_id), reason=str(error)[:200])
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
            return await self._temporal.service_client.check_health(timeout=timedelta(seconds=2))
        except (RPCError, RuntimeError):
            return False

    async def _start(self, workspace_id: UUID, execution_id: UUID) -> bool:
        async with self._database.workspace(workspace_id) as session:
            try:
                start = await starts.load(session, workspace_id, execution_id)
            except ValidationError as error:
                raise NotStartable("graph_unreadable", "This version's graph cannot be read.") from error
        if start is None:
            return False
        run_id = await self._start_workflow(start.input, summary=start.workflow_name)
        async with self._database.workspace(workspace_id) as session:
            await starts.note_dispatched(session, workspace_id, execution_id, run_id=run_id)
        self._hint(execution_id)
        return True

    async def _refuse(self, workspace_id: UUID, execution_id: UUID, refusal: "NotStartable") -> None:
        """Fail a run whose start would be refused for ever."""
        log.warning("start refused", execution_id=str(execution_id), reason=refusal.type)
        try:
            async with self._database.workspace(workspace_id) as session:
                await runs.refuse(
                    session, workspace_id, execution_id, type_=refusal.type, message=str(refusal)
                )
        except (OSError, DBAPIError, PoolTimeout) as error:
            log.warning("refusal postponed", execution_id=str(execution_id), reason=type(error).__name__)

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
        except RPCError as error:
            if error.status in TOO_MUCH and (size := len(given.model_dump_json())) > START_CAP:
                raise NotStartable("input_too_large", TOO_LARGE.format(size=size, cap=START_CAP)) from error
            raise
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
