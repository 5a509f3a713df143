"""What an open run waits for, as Temporal sees it: its workflow task, its activities, or nothing at all."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import (
    EventType,
    PendingActivityState,
    PendingWorkflowTaskState,
    WorkflowExecutionStatus,
)
from temporalio.api.workflow.v1 import PendingActivityInfo, PendingWorkflowTaskInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryReverseRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from activities.clients.runs import RPC_TIMEOUT, unless_not_found, workflow_id_of

LONGEST = 200
BATCHES = 4


@dataclass(frozen=True)
class Task:
    """A workflow task that is to be done."""

    attempt: int
    since: datetime
    is_started: bool


@dataclass(frozen=True)
class Activity:
    """An activity that is not over."""

    attempt: int
    since: datetime
    is_started: bool
    is_held: bool = False
    """Paused by an operator."""
    again_at: datetime | None = None
    """When a failed one is tried again."""


@dataclass(frozen=True)
class Pending:
    """Everything that a run waits for but time and signals, of which Temporal tells nothing."""

    is_open: bool = True
    task: Task | None = None
    activities: tuple[Activity, ...] = field(default=())


async def of(client: Client, execution_id: UUID) -> Pending | None:
    """Ask what an execution's run waits for; None if Temporal knows no run. Raises RPCError in an outage."""
    request = DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=_run(execution_id))
    try:
        found = await client.workflow_service.describe_workflow_execution(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        unless_not_found(error)
        return None
    return _read(found)


async def last_failure(client: Client, execution_id: UUID) -> str:
    """Say why a run's workflow task failed last; empty if its newest events do not tell."""
    request = GetWorkflowExecutionHistoryReverseRequest(
        namespace=client.namespace, execution=_run(execution_id), maximum_page_size=BATCHES
    )
    try:
        page = await client.workflow_service.get_workflow_execution_history_reverse(
            request, timeout=RPC_TIMEOUT
        )
    except RPCError as error:
        unless_not_found(error)
        return ""
    for event in page.history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            return event.workflow_task_failed_event_attributes.failure.message[:LONGEST]
    return ""


def _run(execution_id: UUID) -> WorkflowExecution:
    return WorkflowExecution(workflow_id=workflow_id_of(execution_id))


def _read(found: DescribeWorkflowExecutionResponse) -> Pending:
    status = found.workflow_execution_info.status
    return Pending(
        is_open=status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING,
        task=_task(found.pending_workflow_task) if found.HasField("pending_workflow_task") else None,
        activities=tuple(map(_activity, found.pending_activities)),
    )


def _task(one: PendingWorkflowTaskInfo) -> Task:
    # A heartbeat schedules the task anew; it began when it was scheduled first.
    first = one.original_scheduled_time if one.HasField("original_scheduled_time") else one.scheduled_time
    is_started = one.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED
    return Task(attempt=one.attempt, since=_time(first), is_started=is_started)


def _activity(one: PendingActivityInfo) -> Activity:
    again = one.next_attempt_schedule_time if one.HasField("next_attempt_schedule_time") else None
    return Activity(
        attempt=one.attempt,
        since=_time(one.scheduled_time),
        is_started=one.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
        is_held=one.paused or one.state == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED,
        again_at=_time(again) if again is not None else None,
    )


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
