"""What Temporal itself says of an open run: what is pending, which attempt, and on which worker."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import monotonic
from typing import Literal, Protocol
from uuid import UUID

from google.protobuf.message import Message
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import (
    PendingActivityState,
    PendingWorkflowTaskState,
    TaskQueueType,
    WorkflowExecutionStatus,
)
from temporalio.api.failure.v1 import Failure
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
)
from temporalio.client import Client
from temporalio.exceptions import FailureError
from temporalio.service import RPCError, RPCStatusCode

from activities.clients.keyring import NoKey
from activities.clients.payloads import Unreadable
from activities.clients.runs import workflow_id_of
from workflows.failures import told_by
from workflows.messages import StepError

PATIENCE = 1.5
"""Seconds that whoever looks at a run waits for Temporal, whatever is asked."""
PAUSE = 2.0
"""Seconds during which nobody waits for a Temporal that did not answer."""
POLLED_WITHIN = timedelta(seconds=75)
"""A worker with a free slot asks for work at least once a minute (the server's long poll)."""
UNDER_WAY = timedelta(seconds=2)
"""What was scheduled so lately is on its way to a worker."""
UNREACHABLE, UNKNOWN, OVER = "temporal_unreachable", "run_unknown", "run_over"

State = Literal["scheduled", "running", "paused", "cancelling"]
STATES: Mapping[int, State] = {
    PendingActivityState.PENDING_ACTIVITY_STATE_STARTED: "running",
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED: "running",
    PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED: "cancelling",
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED: "paused",
}
# The client's own `describe` raises on the server's pause, so requests are raw and statuses plain numbers.
OPEN = (
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED,
)


class Unseen(Exception):
    """Temporal does not say how a run stands; the text is the reason, as a code."""


@dataclass(frozen=True, kw_only=True)
class Pending:
    """An activity that has not ended, as Temporal counts its attempts: from one, for this scheduling."""

    state: State
    attempt: int = 1
    """Under way, or the one to come."""
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    """Of the attempt under way."""
    ended_at: datetime | None = None
    """Of the attempt before."""
    next_at: datetime | None = None
    """When the next attempt is due."""
    worker: str | None = None
    """Who has the attempt under way: a digest, as the name tells of processes and machines."""
    error: StepError | None = None
    """Of the attempt before."""
    queue: str = ""
    seconds: float | None = None
    """How long an attempt may take."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """One moment of a run."""

    run_id: str
    is_open: bool = True
    is_paused: bool = False
    """By the server's own pause, which an operator may use; not by ours."""
    task_since: datetime | None = None
    """When a workflow task was scheduled that no worker has taken yet."""
    task_attempt: int = 0
    """Of the workflow task that is pending, taken or not; 0 if none is."""
    queue: str = ""
    build: str = ""
    """The one that the run is pinned to, if any."""
    pending: Mapping[str, Pending] = field(default_factory=dict)
    """By activity id, which is the step's key."""
    unpolled: frozenset[str] = frozenset()
    """Task queues on which something waits and for which no worker of its build has asked lately."""


class Describer(Protocol):
    """Tells how a run stands."""

    async def look(self, execution_id: UUID) -> Described:
        """Describe a run within `PATIENCE`; raises Unseen."""


class Nobody:
    """Stands in where there is no Temporal to ask."""

    async def look(self, execution_id: UUID) -> Described:
        """Have no answer."""
        raise Unseen(UNREACHABLE)


class Temporals:
    """Asks Temporal."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._away_until = 0.0

    async def look(self, execution_id: UUID) -> Described:
        """Describe a run, and whether anybody serves the queues it waits in."""
        if monotonic() < self._away_until:
            raise Unseen(UNREACHABLE)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._describe(execution_id)
                found = await self._read(answer)
                return await self._with_pollers(found)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise Unseen(UNKNOWN) from error
            raise self._away() from error
        # A lazy client whose server is away raises RuntimeError.
        except (TimeoutError, RuntimeError, OSError) as error:
            raise self._away() from error

    def _away(self) -> Unseen:
        self._away_until = monotonic() + PAUSE
        return Unseen(UNREACHABLE)

    async def _describe(self, execution_id: UUID) -> DescribeWorkflowExecutionResponse:
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id_of(execution_id)),
        )
        service = self._client.workflow_service
        return await service.describe_workflow_execution(request, timeout=timedelta(seconds=PATIENCE))

    async def _read(self, answer: DescribeWorkflowExecutionResponse) -> Described:
        info, task = answer.workflow_execution_info, answer.pending_workflow_task
        is_waiting = task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED
        paused = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED
        return Described(
            run_id=info.execution.run_id,
            is_open=info.status in OPEN,
            is_paused=info.status == paused,
            task_since=moment(task, "original_scheduled_time") if is_waiting else None,
            task_attempt=task.attempt if answer.HasField("pending_workflow_task") else 0,
            queue=info.task_queue,
            build=info.versioning_info.deployment_version.build_id,
            pending={each.activity_id: await self._pending(each) for each in answer.pending_activities},
        )

    async def _pending(self, info: PendingActivityInfo) -> Pending:
        state = STATES.get(info.state, "scheduled")
        is_running = state in ("running", "cancelling")
        options = info.activity_options
        limit = options.start_to_close_timeout.ToTimedelta()
        return Pending(
            state=state,
            attempt=max(info.attempt, 1),
            scheduled_at=moment(info, "scheduled_time"),
            started_at=moment(info, "last_started_time") if is_running else None,
            ended_at=moment(info, "last_attempt_complete_time"),
            next_at=None if is_running else moment(info, "next_attempt_schedule_time"),
            worker=named(info.last_worker_identity) if is_running else None,
            error=await self._error(info.last_failure) if info.HasField("last_failure") else None,
            queue=options.task_queue.name,
            seconds=limit.total_seconds() or None,
        )

    async def _error(self, failure: Failure) -> StepError:
        try:
            error = await self._client.data_converter.decode_failure(failure)
        except (NoKey, Unreadable):
            # That its words cannot be read is no reason to say nothing of the run.
            return StepError(type="unreadable", message="The error is encrypted with a key that is not here.")
        return told_by(error if isinstance(error, FailureError) else FailureError(str(error)))

    async def _with_pollers(self, found: Described) -> Described:
        """Ask whether workers poll the queues in which something has been waiting for a moment."""
        wanted = waiting_in(found, datetime.now(UTC))
        asked = await asyncio.gather(*(self._is_polled(*each, build=found.build) for each in wanted))
        silent = (queue for (queue, _), polled in zip(wanted, asked, strict=True) if not polled)
        return Described(**{**vars(found), "unpolled": frozenset(silent)})

    async def _is_polled(self, queue: str, kind: TaskQueueType.ValueType, *, build: str) -> bool:
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
        )
        service = self._client.workflow_service
        answer = await service.describe_task_queue(request, timeout=timedelta(seconds=PATIENCE))
        since = datetime.now(UTC) - POLLED_WITHIN
        theirs = [each for each in answer.pollers if serves(each, build)]
        return any(at > since for each in theirs if (at := moment(each, "last_access_time")))


def serves(poller: PollerInfo, build: str) -> bool:
    """Tell whether a worker may take what is pinned to a build; older servers do not say of which it is."""
    return not build or poller.deployment_options.build_id in ("", build)


def waiting_in(found: Described, now: datetime) -> list[tuple[str, TaskQueueType.ValueType]]:
    """Name the queues in which something of a run has been waiting for a worker."""
    waiting: dict[tuple[str, TaskQueueType.ValueType], None] = {}
    if found.task_since is not None and found.task_since < now - UNDER_WAY:
        waiting[found.queue, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW] = None
    for each in found.pending.values():
        due = max(filter(None, (each.next_at, each.scheduled_at)), default=now)
        if each.state == "scheduled" and due < now - UNDER_WAY and each.queue:
            waiting[each.queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY] = None
    return list(waiting)


def named(identity: str) -> str | None:
    """Name a worker so that one can be told from another, and nothing else."""
    return sha256(identity.encode()).hexdigest()[:8] if identity else None


def moment(message: Message, name: str) -> datetime | None:
    """Read a time of the server's, where there is one."""
    if not message.HasField(name):
        return None
    at: datetime = getattr(message, name).ToDatetime(tzinfo=UTC)
    # The server writes the zero time where it means none.
    return at if at.year > 1 and at.timestamp() > 0 else None
