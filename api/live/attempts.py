"""The attempts of one step, put together from what each witness knows of them. Pure.

History keeps of a step only its last attempt. Workers record every one that failed, and those after it;
Temporal knows the one under way or due, and how the one before it ended, which a worker that died could not
record.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import ConfigDict, Field

from api.live.describer import Pending
from api.schemas import JsonObject, Shown
from db.models import ExecutionLog, ExecutionStep

Status = Literal["running", "scheduled", "succeeded", "failed", "unrecorded"]


class Attempt(Shown):
    """One attempt at a step."""

    model_config = ConfigDict(
        title="StepAttempt",
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "round": 1,
                    "attempt": 1,
                    "status": "failed",
                    "started_at": "2026-11-27T08:00:00Z",
                    "finished_at": "2026-11-27T08:00:01Z",
                    "error": {"type": "smtp_error", "message": "421 try again later"},
                    "next_attempt_at": "2026-11-27T08:00:03Z",
                    "worker": None,
                }
            ]
        },
    )

    round: int = Field(1, description="From 1; when somebody has a step tried again, the next one begins.")
    attempt: int = Field(description="From 1 in each round.")
    status: Status = Field(
        description="`scheduled` is due at `next_attempt_at`; of an `unrecorded` one its worker left no word."
    )
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: JsonObject | None = Field(None, description="{type, message}")
    next_attempt_at: datetime | None = Field(
        None, description="Of a failed one: when it was tried again, or will be."
    )
    worker: str | None = Field(None, description="Who is at it, as a digest of its name.")


def attempts(
    step: ExecutionStep, recorded: Iterable[ExecutionLog], pending: Pending | None = None, *, tried: int = 0
) -> list[Attempt]:
    """Tell a step's attempts, oldest first.

    `recorded` are its log lines of source `attempt`, oldest first; `tried` counts the attempts that came
    before Temporal's own count began (the fast path, design §5).
    """
    told = list(_gaps_shown([_recorded(line) for line in recorded]))
    if pending is not None:
        told = _with_pending(told, pending, tried)
    elif not told or told[-1].attempt != step.attempt or _went_on(step, told[-1]):
        told += _last(step, told)
    return list(_linked(_rounds_counted(told)))


def _went_on(step: ExecutionStep, last: Attempt) -> bool:
    """Tell whether a step went well whose last record is a failure: somebody had it tried again."""
    return step.status == "completed" and last.status == "failed"


def _rounds_counted(told: Sequence[Attempt]) -> list[Attempt]:
    counted, last, number = [], 0, 1
    for attempt in told:
        number += attempt.attempt <= last
        counted.append(attempt.model_copy(update={"round": number}))
        last = attempt.attempt
    return counted


def _recorded(line: ExecutionLog) -> Attempt:
    number, data = line.attempt or 1, line.data or {}
    ended = line.created_at + timedelta(milliseconds=float(data.get("ms") or 0))
    if line.log_level == "INFO":
        return Attempt(attempt=number, status="succeeded", started_at=line.created_at, finished_at=ended)
    message = line.message.removeprefix(f"Attempt {number} failed: ")
    error = {"type": data.get("type") or "error", "message": message}
    return Attempt(
        attempt=number, status="failed", started_at=line.created_at, finished_at=ended, error=error
    )


def _gaps_shown(told: Sequence[Attempt]) -> Iterator[Attempt]:
    """Yield them with those that nobody recorded: a number that is not higher begins a new round."""
    last = 0
    for attempt in told:
        last = last if attempt.attempt > last else 0
        yield from _unrecorded(range(last + 1, attempt.attempt))
        yield attempt
        last = attempt.attempt


def _unrecorded(numbers: Iterable[int]) -> list[Attempt]:
    return [Attempt(attempt=number, status="unrecorded") for number in numbers]


def _with_pending(told: list[Attempt], pending: Pending, tried: int) -> list[Attempt]:
    number, is_running = tried + pending.attempt, pending.state in ("running", "cancelling")
    last = told[-1].attempt if told and told[-1].attempt <= number else 0
    if last == number and pending.state == "running":
        ended = told[-1].finished_at
        if ended is None or pending.started_at is None or pending.started_at < ended:
            # A worker has recorded the very attempt that Temporal has not yet heard the end of.
            return told
        last = 0
    told = [*told, *_unrecorded(range(last + 1, number))]
    if pending.error is not None and pending.attempt > 1 and told and told[-1].status == "unrecorded":
        how = {"status": "failed", "error": pending.error.model_dump(), "finished_at": pending.ended_at}
        told[-1] = told[-1].model_copy(update=how)
    return [
        *told,
        Attempt(
            attempt=number,
            status="running" if is_running else "scheduled",
            started_at=pending.started_at,
            next_attempt_at=None if is_running else pending.next_at or pending.scheduled_at,
            worker=pending.worker,
        ),
    ]


def _last(step: ExecutionStep, told: Sequence[Attempt]) -> list[Attempt]:
    """Tell the last attempt from the step's own row, which is all there is of one that went well at once."""
    if step.status == "skipped" or step.started_at is None:
        return []
    number = step.attempt
    last = told[-1].attempt if told and told[-1].attempt < number else 0
    if step.status == "running" and step.error is not None and told:
        # It failed and will be tried again; when, only Temporal knows.
        return []
    status: Status = {"completed": "succeeded", "failed": "failed", "running": "running"}.get(  # type: ignore[assignment] # the values are
        step.status, "unrecorded"
    )
    # A row's start is that of the first attempt.
    is_first = number == 1 and not told
    return [
        *_unrecorded(range(last + 1, number)),
        Attempt(
            attempt=number,
            status=status,
            started_at=step.started_at if is_first else None,
            finished_at=step.finished_at,
            error=step.error if status == "failed" else None,
        ),
    ]


def _linked(told: Sequence[Attempt]) -> Iterator[Attempt]:
    """Say of each that failed when the next one came, or is due."""
    for number, attempt in enumerate(told):
        after = told[number + 1] if number + 1 < len(told) else None
        if after is None or attempt.status not in ("failed", "unrecorded"):
            yield attempt
            continue
        due = after.next_attempt_at if after.status == "scheduled" else after.started_at
        yield attempt.model_copy(update={"next_attempt_at": due})
