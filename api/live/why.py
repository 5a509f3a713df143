"""Why a run is where it is, in one sentence: a pure function of its rows and of what it waits for.

The sentence speaks as the UI does, with labels in quotes; ids and times stand in the facts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from api.live.describer import OVER, UNKNOWN, UNREACHABLE
from api.live.waits import Wait
from db.live import Stand
from workflows.failures import QUEUE_LIMITED

Code = Literal[
    "completed",
    "failed",
    "cancelled",
    "cancelling",
    "workflow_paused",
    "temporal_unreachable",
    "run_unknown",
    "about_to_start",
    "no_worker",
    "queued",
    "paused",
    "held",
    "retrying",
    "step_paused",
    "running",
    "approval",
    "event",
    "execution",
    "sleeping",
    "loop",
    "closing",
]
CODES: tuple[str, ...] = get_args(Code)


class Why(BaseModel):
    """Why a run is where it is."""

    model_config = ConfigDict(
        title="ExecutionWhy",
        json_schema_extra={
            "examples": [
                {
                    "code": "retrying",
                    "sentence": "Retrying “Send the offer”: attempt 3 of 5 is due at "
                    "2026-11-27 08:00:06 UTC. The last one failed: 421 try again later.",
                    "facts": {
                        "node_id": "mail",
                        "step_id": "01936f1e-7c3a-7bd0-8f53-2f6a1c3b9d10",
                        "attempt": 3,
                        "max_attempts": 5,
                        "next_attempt_at": "2026-11-27T08:00:06Z",
                        "last_error": {"type": "smtp_error", "message": "421 try again later"},
                    },
                }
            ]
        },
    )

    code: Code = Field(description="Stable; decide by this one.")
    sentence: str = Field(description="For people.")
    facts: dict[str, Any] = Field(description="What the sentence was made of: ids, times, counts.")


@dataclass(frozen=True)
class Case:
    """All that the answer depends on."""

    stand: Stand
    waits: Sequence[Wait] = ()
    missing: str | None = None
    """Why Temporal told nothing of the run."""
    is_paused: bool = False


Answer = tuple[Code, str, dict[str, Any]]


def why(case: Case) -> Why:
    """Say why the run is where it is."""
    code, sentence, facts = _answer(case)
    run = case.stand.run
    beside = {"status": run.status, "status_reason": run.status_reason}
    if case.missing == UNREACHABLE and case.stand.is_open:
        beside["temporal"] = "unreachable"
    told = {name: value for name, value in {**beside, **facts}.items() if value is not None}
    return Why(code=code, sentence=sentence, facts=told)


def _answer(case: Case) -> Answer:
    ended = ENDED.get(case.stand.run.status)
    if ended is not None:
        return ended(case.stand)
    if case.stand.run.cancel_requested_at is not None:
        return _cancelling(case)
    if case.stand.run.status == "queued" and case.stand.run.dispatched_at is None and not case.waits:
        return _not_started(case)
    if case.missing in (UNKNOWN, OVER):
        return _gone(case)
    if case.is_paused:
        return _paused(case)
    return _waiting(case) if case.waits else _without_waits(case)


# ── runs that are over


def _completed(stand: Stand) -> Answer:
    outcome, at = stand.run.status_reason, stand.run.finished_at
    how = f" as “{outcome}”" if outcome else ""
    return "completed", f"Completed{how}{_at(at)}.", {"finished_at": at, "outcome": outcome}


def _failed(stand: Stand) -> Answer:
    run, error = stand.run, stand.run.error or {}
    facts = {"finished_at": run.finished_at, "error": run.error, "node_id": error.get("node_id")}
    told = _clean(error.get("message")) or (run.status_reason or "nobody knows why").replace("_", " ")
    label, _, message = told.partition(": ")
    if run.status_reason == "node_failed" and message:
        return "failed", f"Failed because “{label}” failed: {message}.", facts
    return "failed", f"Failed{_at(run.finished_at)}: {told}.", facts


def _cancelled(stand: Stand) -> Answer:
    run, error = stand.run, stand.run.error or {}
    facts = {"finished_at": run.finished_at, "error": run.error, "asked_at": run.cancel_requested_at}
    cause = _clean(error.get("message"))
    if cause in ("", "cancelled"):
        # Through the API it leaves its time; an operator's cancel in Temporal leaves nothing but itself.
        by = "on request" if run.cancel_requested_at is not None else "from outside FlowTrack"
        return "cancelled", f"Cancelled {by}{_at(run.finished_at)}.", facts
    if cause.startswith("cancelled "):
        return "cancelled", f"C{cause[1:]}{_at(run.finished_at)}.", facts
    return "cancelled", f"Cancelled{_at(run.finished_at)}: {cause.replace('_', ' ')}.", facts


ENDED: Mapping[str, Callable[[Stand], Answer]] = {
    "completed": _completed,
    "failed": _failed,
    "cancelled": _cancelled,
}


# ── runs that have not begun, or of which little is known


def _cancelling(case: Case) -> Answer:
    asked = case.stand.run.cancel_requested_at
    because = " Temporal cannot be reached; it is told once it is back." if _is_away(case) else ""
    sentence = f"Being cancelled: somebody asked for it{_at(asked)}.{because}"
    return "cancelling", sentence, {"asked_at": asked}


def _not_started(case: Case) -> Answer:
    stand, facts = case.stand, {"queued_at": case.stand.run.queued_at}
    if stand.workflow_status == "paused":
        sentence = f"Queued because the workflow “{stand.workflow_name}” is paused."
        return "workflow_paused", sentence, {**facts, "workflow_id": stand.run.workflow_id}
    if _is_away(case):
        sentence = "Queued because Temporal cannot be reached; the run starts once it is back."
        return "temporal_unreachable", sentence, facts
    return "about_to_start", f"Queued{_at(stand.run.queued_at)} and about to be started.", facts


def _paused(case: Case) -> Answer:
    by = case.stand.paused_by
    who = f" by {by}" if by else ""
    sleeping = _most_telling(case.waits) if case.waits else None
    facts: dict[str, Any] = {"paused_by": by}
    also = ""
    if sleeping is not None and sleeping.kind not in ("paused", "queued"):
        _, told, more = _of(sleeping)
        facts, also = {**facts, **more}, f" Meanwhile: {told[0].lower()}{told[1:]}"
    return "paused", f"Paused{who}; no further step begins until it is resumed.{also}", facts


def _gone(case: Case) -> Answer:
    if case.missing == OVER:
        return "closing", "It has just ended; its rows follow in a moment.", {}
    sentence = "Temporal does not know this run: it was deleted there, or its start is under way."
    return "run_unknown", sentence, {"dispatched_at": case.stand.run.dispatched_at}


def _without_waits(case: Case) -> Answer:
    if _is_away(case):
        return "temporal_unreachable", "Under way; Temporal cannot be reached to say more.", {}
    return "running", "Under way between two steps.", {"started_at": case.stand.run.started_at}


def _is_away(case: Case) -> bool:
    return case.missing == UNREACHABLE


# ── runs that wait for something


def _waiting(case: Case) -> Answer:
    waits, wait = case.waits, _most_telling(case.waits)
    code, sentence, facts = _of(wait)
    loops = [each for each in waits if each.kind == "loop" and each is not wait]
    for loop in (
        each for each in loops if (each.node_id, each.visit) == (wait.loop_node_id, wait.loop_visit)
    ):
        sentence += f" {_so_far(loop)}" if loop.ended_items is not None else f" This is {_item(loop)}."
        facts["loop"] = _facts(loop)
        code = "loop" if code == "running" else code
    others = len(waits) - len(loops) - 1
    if others:
        sentence += f" {others} more {'step is' if others == 1 else 'steps are'} open."
        facts["open_steps"] = len(waits)
    if _is_away(case) and wait.kind in ("activity", "retry"):
        sentence += " Temporal cannot be reached, so this may be out of date."
    return code, sentence, facts


def _most_telling(waits: Sequence[Wait]) -> Wait:
    """Choose what holds the run up most: what needs somebody comes before what goes on by itself."""
    return min(waits, key=lambda wait: (_RANKS[_of(wait)[0]], wait.until or _LAST))


def _of(wait: Wait) -> Answer:
    return TOLD[wait.kind](wait)


def _held(wait: Wait) -> Answer:
    return "held", f"Held after “{wait.name}” failed{_because(wait)}. Retry or skip it.", _facts(wait)


def _step_paused(wait: Wait) -> Answer:
    if wait.step_id is None and wait.node_id is None:
        return "step_paused", "Paused in Temporal by an operator.", _facts(wait)
    return "step_paused", f"“{wait.name}” is paused.", _facts(wait)


def _retrying(wait: Wait) -> Answer:
    of = f" of {wait.max_attempts}" if wait.max_attempts else ""
    due = f" is due{_at(wait.next_attempt_at)}" if wait.next_attempt_at else " comes next"
    failed = f" The last one failed{_because(wait)}." if wait.last_error else ""
    sentence = f"Retrying “{wait.name}”: attempt {wait.attempt}{of}{due}.{failed}"
    return "retrying", sentence, _facts(wait)


def _queued(wait: Wait) -> Answer:
    what = f"“{wait.name}”" if wait.node_id else "The run"
    if wait.has_workers is False:
        where = f" on the task queue {wait.queue}" if wait.queue else ""
        return "no_worker", f"{what} waits for a worker, and none is at work{where}.", _facts(wait)
    if wait.last_error is not None and wait.last_error.type == QUEUE_LIMITED:
        where = f"the task queue {wait.queue}" if wait.queue else "its task queue"
        return "queued", f"{what} waits its turn{_since(wait)}: {where} is limited.", _facts(wait)
    return "queued", f"{what} waits for a worker{_since(wait)}.", _facts(wait)


def _running(wait: Wait) -> Answer:
    number = wait.attempt or 1
    of = f" of {wait.max_attempts}" if wait.max_attempts else ""
    again = f", attempt {number}{of}" if number > 1 else ""
    return "running", f"Running “{wait.name}”{_since(wait)}{again}.", _facts(wait)


def _approval(wait: Wait) -> Answer:
    return "approval", f"Waiting for a decision at “{wait.name}”{_since(wait)}{_until(wait)}.", _facts(wait)


def _event(wait: Wait) -> Answer:
    types = " or ".join(wait.events or ()) or "an event"
    return "event", f"Waiting for {types} at “{wait.name}”{_since(wait)}{_until(wait)}.", _facts(wait)


def _execution(wait: Wait) -> Answer:
    sentence = f"Waiting at “{wait.name}” for the run that it started to end{_since(wait)}."
    return "execution", sentence, _facts(wait)


def _sleeping(wait: Wait) -> Answer:
    return "sleeping", f"Sleeping at “{wait.name}”{_until(wait)}.", _facts(wait)


def _loop(wait: Wait) -> Answer:
    failed = f", {wait.failed_items} failed" if wait.failed_items else ""
    if wait.ended_items is not None:
        return "loop", _so_far(wait, failed), _facts(wait)
    return "loop", f"At {_item(wait)}{failed}.", _facts(wait)


def _item(loop: Wait) -> str:
    return f"item {loop.item} of {loop.items} of “{loop.name}”"


def _so_far(loop: Wait, failed: str = "") -> str:
    """Tell of items that are done side by side: which of them is under way is not known."""
    return f"{loop.ended_items} of {loop.items} items of “{loop.name}” are over{failed}."


TOLD: Mapping[str, Callable[[Wait], Answer]] = {
    "held": _held,
    "paused": _step_paused,
    "retry": _retrying,
    "queued": _queued,
    "activity": _running,
    "approval": _approval,
    "event": _event,
    "execution": _execution,
    "timer": _sleeping,
    "loop": _loop,
}
_RANKS = {
    code: rank
    for rank, code in enumerate(
        (
            *("held", "no_worker", "step_paused", "retrying", "running", "queued"),
            *("approval", "event", "execution", "sleeping", "loop"),
        )
    )
}
_LAST = datetime.max.replace(tzinfo=UTC)


# ── words


def _facts(wait: Wait) -> dict[str, Any]:
    return dict(_told(wait))


def _told(wait: Wait) -> Iterator[tuple[str, Any]]:
    for name in Wait.model_fields:
        value = getattr(wait, name)
        if value is not None and name != "kind":
            yield name, value.model_dump() if isinstance(value, BaseModel) else value


def _because(wait: Wait) -> str:
    return f": {_clean(wait.last_error.message)}" if wait.last_error else ""


def _since(wait: Wait) -> str:
    return f" since {_moment(wait.since)}" if wait.since else ""


def _until(wait: Wait) -> str:
    return f" until {_moment(wait.until)}" if wait.until else ""


def _at(at: datetime | None) -> str:
    return f" at {_moment(at)}" if at else ""


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _clean(text: str | None) -> str:
    """Make one line of a message, without the full stop that the sentence has itself."""
    return " ".join((text or "").split())[:500].rstrip(". ")
