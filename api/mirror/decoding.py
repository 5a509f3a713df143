"""From Temporal's history events to the mirror's: payloads pass the client's own converter and codec."""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, CancelledError, FailureError

from api.mirror.events import (
    CancelAsked,
    Closed,
    Commanded,
    Event,
    PickedUp,
    Recorded,
    RunEnded,
    Scheduled,
    Signalled,
    Slept,
    Started,
    TakenUp,
    WasReset,
    Watched,
    Woke,
)
from workflows.failures import WITHDRAWN, told_by
from workflows.graph import split_key
from workflows.messages import Begun, Command, ExecutionInput, ExecutionResult, Heard, Outcome

Reader = Callable[[HistoryEvent, DataConverter], Awaitable[Event | None]]
Wanted = TypeVar("Wanted")

LOCAL_ACTIVITY = "core_local_activity"
RESETTER = "history-resetter"
"""Who terminates the run that is reset, by the event's `identity`."""


async def decode(event: HistoryEvent, converter: DataConverter) -> Event | None:
    """Read one event; None if the projection has no use for it."""
    reader = READERS.get(event.event_type)
    return await reader(event, converter) if reader else None


def time_of(stamp: Timestamp) -> datetime:
    """Read a time of the server's."""
    return stamp.ToDatetime(tzinfo=UTC)


async def _started(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_execution_started_event_attributes
    given = await _value(told.input.payloads, converter, ExecutionInput)
    if given is None:
        return None
    return Started(
        event.event_id,
        time_of(event.event_time),
        told.original_execution_run_id,
        told.continued_execution_run_id,
        given,
        is_told=bool(told.completion_callbacks),
    )


async def _options_updated(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_execution_options_updated_event_attributes
    return Watched(event.event_id, time_of(event.event_time)) if told.attached_completion_callbacks else None


async def _taken_up(event: HistoryEvent, converter: DataConverter) -> Event | None:
    return TakenUp(event.event_id, time_of(event.event_time))


async def _task_failed(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_task_failed_event_attributes
    if told.cause != WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
        return None
    # The server writes the reason itself: no codec has seen it.
    ids = told.new_run_id, told.base_run_id
    return WasReset(event.event_id, time_of(event.event_time), *ids, told.failure.message)


async def _marker(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.marker_recorded_event_attributes
    if told.marker_name != LOCAL_ACTIVITY:
        return None
    about = json.loads(told.details["data"].payloads[0].data)
    key = about["activity_id"]
    wanted = Outcome if split_key(key) else Begun if key == "begin" else None
    if wanted is None:
        return None
    # Reading a key that a protobuf map does not hold would add it.
    result = list(told.details["result"].payloads) if "result" in told.details else []
    return Recorded(
        event.event_id,
        _ended_at(about, event),
        **await _end(result, told.failure if told.HasField("failure") else None, converter, wanted),
        key=key,
        attempt=max(about["attempt"], 1),
        backs_off=about["backoff"] is not None,
    )


def _ended_at(about: dict[str, Any], event: HistoryEvent) -> datetime:
    """Read when a local activity ended; the event has only the end of the workflow task around it."""
    written, told = time_of(event.event_time), about["complete_time"]
    if told is None:
        return written
    return min(written, time_of(Timestamp(seconds=told["seconds"], nanos=told["nanos"])))


async def _scheduled(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.activity_task_scheduled_event_attributes
    return Scheduled(event.event_id, time_of(event.event_time), told.activity_id)


async def _picked_up(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.activity_task_started_event_attributes
    return PickedUp(event.event_id, time_of(event.event_time), told.scheduled_event_id, told.attempt)


async def _completed(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.activity_task_completed_event_attributes
    end = await _end(told.result.payloads, None, converter, Outcome)
    return Closed(event.event_id, time_of(event.event_time), **end, scheduled_id=told.scheduled_event_id)


async def _failed(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.activity_task_failed_event_attributes
    end = {**await _end([], told.failure, converter, Outcome), "final": True}
    return Closed(event.event_id, time_of(event.event_time), **end, scheduled_id=told.scheduled_event_id)


async def _timed_out(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.activity_task_timed_out_event_attributes
    end = {**await _end([], told.failure, converter, Outcome), "final": True}
    return Closed(event.event_id, time_of(event.event_time), **end, scheduled_id=told.scheduled_event_id)


async def _cancelled(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.activity_task_canceled_event_attributes
    at = time_of(event.event_time)
    return Closed(event.event_id, at, cancelled=True, scheduled_id=told.scheduled_event_id)


async def _timer_started(event: HistoryEvent, converter: DataConverter) -> Event | None:
    if not event.user_metadata.HasField("summary"):
        return None
    summary = await _value([event.user_metadata.summary], converter, str)
    return Slept(event.event_id, time_of(event.event_time), summary or "")


async def _timer_fired(event: HistoryEvent, converter: DataConverter) -> Event | None:
    timer_id = event.timer_fired_event_attributes.started_event_id
    return Woke(event.event_id, time_of(event.event_time), timer_id, fired=True)


async def _timer_cancelled(event: HistoryEvent, converter: DataConverter) -> Event | None:
    timer_id = event.timer_canceled_event_attributes.started_event_id
    return Woke(event.event_id, time_of(event.event_time), timer_id, fired=False)


async def _commanded(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_execution_update_accepted_event_attributes.accepted_request.input
    # Whoever types an update into the Web UI may leave its argument out.
    command = await _value(told.args.payloads, converter, Command) or Command()
    return Commanded(event.event_id, time_of(event.event_time), told.name, command)


async def _signalled(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_execution_signaled_event_attributes
    if told.signal_name != "event":
        return None
    try:
        heard = await _value(told.input.payloads, converter, Heard)
    except Exception:
        # Anybody can send a signal; what is no event the run's worker drops, too.
        return None
    return Signalled(event.event_id, time_of(event.event_time), heard) if heard else None


async def _cancel_asked(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_execution_cancel_requested_event_attributes
    return CancelAsked(event.event_id, time_of(event.event_time), told.cause)


async def _run_completed(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_execution_completed_event_attributes
    result = await _value(told.result.payloads, converter, ExecutionResult) or ExecutionResult()
    return RunEnded(
        event.event_id,
        time_of(event.event_time),
        status="completed",
        # What UTILITY_END says beyond that.
        reason=None if result.outcome == "completed" else result.outcome,
        output=result.output,
        next_run_id=told.new_execution_run_id,
    )


async def _run_failed(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_execution_failed_event_attributes
    failure = await converter.decode_failure(told.failure)
    reason = failure.type if isinstance(failure, ApplicationError) and failure.type else "failed"
    if reason == WITHDRAWN:
        return RunEnded(event.event_id, time_of(event.event_time), "cancelled", "cancelled")
    return RunEnded(
        event.event_id,
        time_of(event.event_time),
        status="failed",
        reason=reason,
        error=_told_by_run(failure),
        next_run_id=told.new_execution_run_id,
    )


async def _run_timed_out(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_execution_timed_out_event_attributes
    error = {"type": "timed_out", "message": "The run did not end within its time limit."}
    return RunEnded(
        event.event_id,
        time_of(event.event_time),
        status="failed",
        reason="timed_out",
        error=error,
        next_run_id=told.new_execution_run_id,
    )


async def _run_cancelled(event: HistoryEvent, converter: DataConverter) -> Event | None:
    return RunEnded(event.event_id, time_of(event.event_time), "cancelled", "cancelled")


async def _run_terminated(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_execution_terminated_event_attributes
    return RunEnded(
        event.event_id,
        time_of(event.event_time),
        status="failed",
        reason="terminated",
        error={"type": "terminated", "message": told.reason or "The run was terminated."},
        was_reset=told.identity == RESETTER,
    )


async def _continued(event: HistoryEvent, converter: DataConverter) -> Event | None:
    told = event.workflow_execution_continued_as_new_event_attributes
    at = time_of(event.event_time)
    return RunEnded(event.event_id, at, "running", next_run_id=told.new_execution_run_id)


async def _value(
    payloads: Sequence[Payload], converter: DataConverter, wanted: type[Wanted]
) -> Wanted | None:
    return (await converter.decode(list(payloads), [wanted]))[0] if payloads else None


async def _end(
    result: Sequence[Payload], failure: Failure | None, converter: DataConverter, wanted: type[Any]
) -> dict[str, Any]:
    """Read how an activity ended, in the words that the driver reads it."""
    if failure is None:
        return {"result": await _value(result, converter, wanted) or wanted()}
    error = await converter.decode_failure(failure)
    if isinstance(error, CancelledError):
        return {"cancelled": True}
    told = told_by(error if isinstance(error, FailureError) else FailureError(str(error)))
    return {"error": told, "final": isinstance(error, ApplicationError) and error.non_retryable}


def _told_by_run(failure: BaseException) -> dict[str, Any]:
    """Read a run's failure: the failed step's own error where there is one."""
    message = failure.message if isinstance(failure, FailureError) else str(failure)
    kind = failure.type if isinstance(failure, ApplicationError) else None
    details = failure.details if isinstance(failure, ApplicationError) else ()
    about = details[0] if details and isinstance(details[0], dict) else {}
    cause = about.get("error") or {}
    where = {name: about[name] for name in ("step", "node_id") if name in about}
    return {"type": cause.get("type") or kind or "error", "message": message, **where}


READERS: dict[int, Reader] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: _started,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED: _taken_up,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: _task_failed,
    EventType.EVENT_TYPE_MARKER_RECORDED: _marker,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: _scheduled,
    EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: _picked_up,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: _completed,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: _failed,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: _timed_out,
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: _cancelled,
    EventType.EVENT_TYPE_TIMER_STARTED: _timer_started,
    EventType.EVENT_TYPE_TIMER_FIRED: _timer_fired,
    EventType.EVENT_TYPE_TIMER_CANCELED: _timer_cancelled,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: _commanded,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: _signalled,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: _cancel_asked,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED: _options_updated,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: _run_completed,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: _run_failed,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: _run_timed_out,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: _run_cancelled,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: _run_terminated,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: _continued,
}
