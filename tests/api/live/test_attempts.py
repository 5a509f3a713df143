"""A step's attempts, put together from its row, the workers' records and what Temporal says."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.live.attempts import Attempt, attempts
from api.live.describer import Pending
from db.models import ExecutionLog, ExecutionStep
from workflows.messages import StepError

T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)
REFUSED = {"type": "smtp_error", "message": "421 later"}


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def step(status: str = "running", attempt: int = 1, **more: Any) -> ExecutionStep:
    given = {"started_at": at(0), "finished_at": None if status == "running" else at(9), **more}
    return ExecutionStep(status=status, attempt=attempt, **given)


def failed(number: int, second: float) -> ExecutionLog:
    message = f"Attempt {number} failed: 421 later"
    data = {"ms": 500.0, "type": "smtp_error"}
    return ExecutionLog(
        attempt=number, created_at=at(second), log_level="WARN", message=message, data=data, source="attempt"
    )


def succeeded(number: int, second: float) -> ExecutionLog:
    message = f"Attempt {number} succeeded"
    return ExecutionLog(
        attempt=number, created_at=at(second), log_level="INFO", message=message, data={"ms": 1000.0}
    )


def brief(told: list[Attempt]) -> list[tuple[int, str]]:
    return [(each.attempt, each.status) for each in told]


def test_a_step_that_succeeded_at_once_has_one_attempt():
    (only,) = attempts(step("completed"), [])
    assert (only.attempt, only.status) == (1, "succeeded")
    assert (only.started_at, only.finished_at, only.error) == (at(0), at(9), None)


def test_each_failure_has_its_error_and_says_when_the_next_came():
    told = attempts(step("completed", 3), [failed(1, 0), failed(2, 2), succeeded(3, 6)])
    assert brief(told) == [(1, "failed"), (2, "failed"), (3, "succeeded")]
    assert [each.error for each in told] == [REFUSED, REFUSED, None]
    assert [each.finished_at for each in told] == [at(0.5), at(2.5), at(7)]
    assert [each.next_attempt_at for each in told] == [at(2), at(6), None]


def test_the_attempt_that_is_due_stands_last_with_its_time():
    pending = Pending(state="scheduled", attempt=3, next_at=at(6), ended_at=at(2.5))
    told = attempts(step(error=REFUSED), [failed(1, 0), failed(2, 2)], pending)
    assert brief(told) == [(1, "failed"), (2, "failed"), (3, "scheduled")]
    assert [each.next_attempt_at for each in told] == [at(2), at(6), at(6)]


def test_the_attempt_under_way_names_its_worker():
    pending = Pending(state="running", attempt=2, started_at=at(2), worker="42@here")
    told = attempts(step(), [failed(1, 0)], pending)
    assert brief(told) == [(1, "failed"), (2, "running")]
    assert (told[1].worker, told[1].started_at, told[0].next_attempt_at) == ("42@here", at(2), at(2))


def test_temporal_tells_how_an_attempt_ended_whose_worker_died():
    lost = StepError(type="timed_out", message="The step did not end within its time limit.")
    pending = Pending(state="scheduled", attempt=2, next_at=at(6), ended_at=at(5), error=lost)
    told = attempts(step(), [], pending)
    assert brief(told) == [(1, "failed"), (2, "scheduled")]
    assert (told[0].error, told[0].finished_at) == (lost.model_dump(), at(5))


def test_attempts_before_temporals_own_count_come_first():
    pending = Pending(state="scheduled", attempt=1, scheduled_at=at(1))
    told = attempts(step(error=REFUSED), [failed(1, 0)], pending, tried=1)
    assert brief(told) == [(1, "failed"), (2, "scheduled")]
    assert told[1].next_attempt_at == at(1)


def test_what_nobody_recorded_is_shown_as_that():
    told = attempts(step("completed", 3), [succeeded(3, 6)])
    assert brief(told) == [(1, "unrecorded"), (2, "unrecorded"), (3, "succeeded")]
    assert brief(attempts(step("failed", 2, error=REFUSED), [])) == [(1, "unrecorded"), (2, "failed")]


def test_a_step_that_somebody_tried_again_counts_anew():
    told = attempts(step("completed", 1), [failed(1, 0), failed(2, 2)])
    assert brief(told) == [(1, "failed"), (2, "failed"), (1, "succeeded")]


def test_a_held_step_that_went_well_when_tried_again_shows_that():
    told = attempts(step("completed", 1), [failed(1, 0)])
    assert brief(told) == [(1, "failed"), (1, "succeeded")]
    assert [each.round for each in told] == [1, 2]
    assert (told[1].started_at, told[1].finished_at) == (None, at(9))


def test_a_completed_step_whose_last_record_is_a_failure_shows_its_end():
    told = attempts(step("completed", 2), [failed(1, 0), failed(2, 2)])
    assert brief(told) == [(1, "failed"), (2, "failed"), (1, "unrecorded"), (2, "succeeded")]
    assert [each.round for each in told] == [1, 1, 2, 2]
    assert [each.round for each in attempts(step("completed", 3), [failed(1, 0), failed(2, 2)])] == [1, 1, 1]


@pytest.mark.parametrize("state", ["running", "scheduled"])
def test_an_attempt_after_somebody_had_it_tried_again_is_not_the_failed_one(state: Any):
    again = Pending(state=state, attempt=1, started_at=at(60) if state == "running" else None)
    told = attempts(step(), [failed(1, 0)], again)
    assert [(each.round, each.attempt, each.status) for each in told] == [(1, 1, "failed"), (2, 1, state)]


def test_an_attempt_whose_end_temporal_has_not_heard_of_is_told_once():
    told = attempts(step(), [failed(1, 0)], Pending(state="running", attempt=1, started_at=at(0)))
    assert brief(told) == [(1, "failed")]


@pytest.mark.parametrize("status", ["skipped", "running"])
def test_a_step_that_never_began_has_no_attempts(status: str):
    assert attempts(step(status, started_at=None), []) == []


def test_between_attempts_and_without_temporal_only_what_has_ended_is_told():
    assert brief(attempts(step(error=REFUSED), [failed(1, 0)])) == [(1, "failed")]
