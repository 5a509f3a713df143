"""Executions in Temporal: started from their queued rows, cancelled, told of events, asked how they ended."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import (
    Client,
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    FailureError,
    TerminatedError,
    WorkflowAlreadyStartedError,
)
from temporalio.exceptions import TimeoutError as TemporalTimeoutError
from temporalio.service import RPCError, RPCStatusCode

from activities.clients import payloads
from activities.clients.blobs import LARGEST, TooLarge
from activities.clients.keyring import PREFIX
from db import starts
from db.session import Database
from db.starts import Start
from workflows import telling
from workflows.failures import WITHDRAWN
from workflows.graph import one_line
from workflows.messages import ExecutionInput, ExecutionResult, Heard

RPC_TIMEOUT = timedelta(seconds=5)
BEHIND = 4
"""How many runs of a workspace start while one that waits behind them does."""
TOO_LARGE = (
    "The trigger's data and the graph together have {size:,} bytes; a run begins with at most {cap:,}. "
    "Send less, or keep large texts out of the nodes."
)


class NotStartable(Exception):
    """A run can never begin as it is: waiting would change nothing."""

    def __init__(self, type_: str, message: str, *, reason: str = "start_refused") -> None:
        super().__init__(message)
        self.type = type_
        self.reason = reason


@dataclass(frozen=True)
class Ending:
    """How a run ended, in the words of its row."""

    status: str
    reason: str | None = None
    output: Any = None
    message: str = ""


async def start(
    database: Database,
    temporal: Client,
    workspace_id: UUID,
    execution_id: UUID,
    *,
    task_queue: str,
    public_url: str = "",
) -> bool:
    """Start a queued execution; False if it is not queued or its workflow is paused.

    Raises RPCError or RuntimeError in an outage: the row stays queued, and the dispatcher finds it.
    """
    async with database.workspace(workspace_id) as session:
        found = await starts.load(session, workspace_id, execution_id)
    if found is None:
        return False
    found = await starts.admitted(database, found)
    run_id = await begin(temporal, found, task_queue=task_queue, public_url=public_url)
    async with database.workspace(workspace_id) as session:
        await starts.note_dispatched(session, workspace_id, {execution_id: run_id})
    return True


async def begin(
    temporal: Client, order: Start, *, task_queue: str, public_url: str = "", is_host: bool = False
) -> str | None:
    """Have Temporal run an execution, once; return the run's id. Its details link to the API at `public_url`.

    Where the client is a host, its own worker takes the run at once if it has room (Temporal's eager start).
    Raises NotStartable, or as `start` in an outage.
    """
    given = order.input
    payloads.tell(temporal, workflow_id_of(given.execution_id), given.workspace_id)
    try:
        handle = await temporal.start_workflow(
            "ExecutionWorkflow",
            given,
            id=workflow_id_of(given.execution_id),
            task_queue=task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=search_attributes(given),
            priority=turn(order),
            static_summary=one_line(order.workflow_name),
            static_details=telling.details(given, workflow_name=order.workflow_name, public_url=public_url),
            rpc_timeout=RPC_TIMEOUT,
            request_eager_start=is_host and not order.waits_behind,
        )
    except WorkflowAlreadyStartedError as error:
        return error.run_id
    except TooLarge as error:
        size = len(given.model_dump_json())
        raise NotStartable("input_too_large", TOO_LARGE.format(size=size, cap=LARGEST)) from error
    return handle.result_run_id or handle.first_execution_run_id


async def cancel(temporal: Client, execution_id: UUID, *, reason: str) -> bool:
    """Ask for a run's end; False if there is no such open run. Raises as `start` in an outage."""
    handle = temporal.get_workflow_handle(workflow_id_of(execution_id))
    try:
        await handle.cancel(reason=reason, rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        return unless_not_found(error)
    return True


async def tell(temporal: Client, execution_id: UUID, event: Heard) -> bool:
    """Tell a run of an event; False if there is no such open run. Raises as `start` in an outage."""
    handle = temporal.get_workflow_handle(workflow_id_of(execution_id))
    try:
        await handle.signal("event", event, rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        return unless_not_found(error)
    return True


async def ending(temporal: Client, execution_id: UUID) -> Ending | None:
    """Tell how a run ended, whatever it was reset to or continued as; None while it is open.

    Raises LookupError if Temporal knows no such run, RPCError in an outage.
    """
    handle = temporal.get_workflow_handle(workflow_id_of(execution_id), result_type=ExecutionResult)
    try:
        described = await handle.describe(rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        unless_not_found(error)
        raise LookupError(str(execution_id)) from error
    if described.status == WorkflowExecutionStatus.RUNNING:
        return None
    current = temporal.get_workflow_handle(handle.id, run_id=described.run_id, result_type=ExecutionResult)
    try:
        result = await current.result(follow_runs=False, rpc_timeout=RPC_TIMEOUT)
    except WorkflowContinuedAsNewError:
        return None
    except WorkflowFailureError as error:
        return _unhappy(error.cause)
    reason = None if result.outcome == "completed" else result.outcome
    return Ending("completed", reason, result.output)


async def is_known(temporal: Client, execution_id: UUID) -> bool:
    """Tell whether Temporal has a run of an execution, open or closed. Raises as `start` in an outage."""
    # Raw: the client's own `describe` raises on a run that the server's pause holds.
    request = DescribeWorkflowExecutionRequest(
        namespace=temporal.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id_of(execution_id)),
    )
    try:
        await temporal.workflow_service.describe_workflow_execution(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        return unless_not_found(error)
    return True


def unless_not_found(error: RPCError) -> bool:
    """Answer False for a run that is not there; anything else is an outage."""
    if error.status != RPCStatusCode.NOT_FOUND:
        raise error
    return False


def workflow_id_of(execution_id: UUID) -> str:
    """Name an execution's Temporal workflow."""
    return f"{PREFIX}{execution_id}"


def turn(order: Start) -> Priority:
    """Say whose turn a run takes where workers are busy: each workspace has its share, by its plan.

    A lower priority would do for what can wait, but it would wait for every other workspace, too, for ever.
    """
    name, weight = str(order.workspace_id), order.weight
    if order.waits_behind:
        return Priority(fairness_key=f"{name}/behind", fairness_weight=weight / BEHIND)
    return Priority(fairness_key=name, fairness_weight=weight)


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


def _unhappy(cause: BaseException | None) -> Ending:
    message = cause.message if isinstance(cause, FailureError) else str(cause)
    if isinstance(cause, CancelledError):
        return Ending("cancelled", "cancelled", message=message)
    if isinstance(cause, TerminatedError):
        return Ending("failed", "terminated", message=message)
    if isinstance(cause, TemporalTimeoutError):
        return Ending("failed", "timed_out", message="The run did not end within its time limit.")
    kind = cause.type if isinstance(cause, ApplicationError) else None
    if kind == WITHDRAWN:
        return Ending("cancelled", "cancelled", message=message)
    return Ending("failed", kind or "failed", message=message)
