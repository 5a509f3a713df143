"""Why a run is where it is: a table of every case, without a database and without Temporal."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from api.live.waits import Wait
from api.live.why import CODES, Case, Why, why
from db.live import Stand
from db.models import WorkflowExecution

T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)
ONE = UUID(int=1)


def at(minutes: int) -> datetime:
    return T0 + timedelta(minutes=minutes)


def stand(status: str = "running", workflow: str = "active", by: str | None = None, **more: Any) -> Stand:
    run = WorkflowExecution(status=status, workflow_id=ONE, **{"queued_at": T0, "dispatched_at": T0, **more})
    return Stand(run, 1, "Inquiries", workflow, paused_by=by)


def fresh(**more: Any) -> Stand:
    return stand("queued", dispatched_at=None, **more)


def wait(kind: Any, label: str = "Ask", **more: Any) -> Wait:
    return Wait(kind=kind, node_id="n", step_id=ONE, label=label, visit=1, since=T0, **more)


ERROR: Any = {"type": "smtp_error", "message": "421 try again\nlater."}
LIMITED: Any = {"type": "queue_limited", "message": "The queue mail is limited."}
HELD = wait("held", "Change", attempt=5, last_error=ERROR)
RETRY = wait("retry", "Send", attempt=3, max_attempts=5, next_attempt_at=at(1), last_error=ERROR)
RUNNING = wait("activity", "Send", attempt=1, max_attempts=5, worker="7@here")
NAP = wait("timer", "Nap", until=at(5))
LOOP = wait("loop", "Each guest", item=17, items=300, failed_items=0)
SIDE_BY_SIDE = wait("loop", "Each guest", item=17, items=300, ended_items=16, failed_items=0)
DEPRIVED = wait("queued", "Send", queue="flowtrack-mail", has_workers=False)
AWAY = "temporal_unreachable"

CASES: list[tuple[str, Stand, Sequence[Wait], dict[str, Any], str]] = [
    ("completed", stand("completed", finished_at=T0), (), {}, "Completed at 2026-01-31 12:00:00 UTC."),
    (
        "completed",
        stand("completed", status_reason="won", finished_at=T0),
        (),
        {},
        "Completed as “won” at 2026-01-31 12:00:00 UTC.",
    ),
    (
        "failed",
        stand("failed", status_reason="node_failed", error={"message": "Send: 550 no such user."}),
        (),
        {},
        "Failed because “Send” failed: 550 no such user.",
    ),
    (
        "failed",
        stand("failed", status_reason="terminated", finished_at=T0, error={"message": "by the night shift"}),
        (),
        {},
        "Failed at 2026-01-31 12:00:00 UTC: by the night shift.",
    ),
    ("failed", stand("failed", status_reason="quota_exceeded"), (), {}, "Failed: quota exceeded."),
    (
        "cancelled",
        stand("cancelled", status_reason="cancelled", cancel_requested_at=T0, finished_at=at(1)),
        (),
        {},
        "Cancelled on request at 2026-01-31 12:01:00 UTC.",
    ),
    (
        "cancelled",
        stand("cancelled", error={"message": "cancelled through the API"}, finished_at=T0),
        (),
        {},
        "Cancelled through the API at 2026-01-31 12:00:00 UTC.",
    ),
    ("cancelled", stand("cancelled"), (), {}, "Cancelled from outside FlowTrack."),
    (
        "cancelled",
        stand("cancelled", error={"message": "parent_ended"}),
        (),
        {},
        "Cancelled: parent ended.",
    ),
    (
        "cancelling",
        stand(cancel_requested_at=T0),
        (NAP,),
        {},
        "Being cancelled: somebody asked for it at 2026-01-31 12:00:00 UTC.",
    ),
    (
        "cancelling",
        stand(cancel_requested_at=T0),
        (NAP,),
        {"missing": AWAY},
        "Being cancelled: somebody asked for it at 2026-01-31 12:00:00 UTC."
        " Temporal cannot be reached; it is told once it is back.",
    ),
    (
        "workflow_paused",
        fresh(workflow="paused"),
        (),
        {"missing": "not_started"},
        "Queued because the workflow “Inquiries” is paused.",
    ),
    (
        "temporal_unreachable",
        fresh(),
        (),
        {"missing": AWAY},
        "Queued because Temporal cannot be reached; the run starts once it is back.",
    ),
    (
        "about_to_start",
        fresh(),
        (),
        {"missing": "not_started"},
        "Queued at 2026-01-31 12:00:00 UTC and about to be started.",
    ),
    (
        "no_worker",
        stand("queued"),
        (Wait(kind="queued", since=T0, queue="flowtrack", has_workers=False),),
        {},
        "The run waits for a worker, and none is at work on the task queue flowtrack.",
    ),
    (
        "no_worker",
        stand(),
        (DEPRIVED,),
        {},
        "“Send” waits for a worker, and none is at work on the task queue flowtrack-mail.",
    ),
    (
        "queued",
        stand(),
        (wait("queued", "Send", has_workers=True),),
        {},
        "“Send” waits for a worker since 2026-01-31 12:00:00 UTC.",
    ),
    (
        "queued",
        stand(),
        (wait("queued", "Send", queue="flowtrack-mail", has_workers=True, last_error=LIMITED),),
        {},
        "“Send” waits its turn since 2026-01-31 12:00:00 UTC: the task queue flowtrack-mail is limited.",
    ),
    (
        "paused",
        stand("waiting", by="ann"),
        (wait("paused"),),
        {"is_paused": True},
        "Paused by ann; no further step begins until it is resumed.",
    ),
    (
        "paused",
        stand("waiting", by="ann"),
        (NAP,),
        {"is_paused": True},
        "Paused by ann; no further step begins until it is resumed."
        " Meanwhile: sleeping at “Nap” until 2026-01-31 12:05:00 UTC.",
    ),
    (
        "held",
        stand("waiting"),
        (HELD,),
        {},
        "Held after “Change” failed: 421 try again later. Retry or skip it.",
    ),
    (
        "retrying",
        stand(),
        (RETRY,),
        {},
        "Retrying “Send”: attempt 3 of 5 is due at 2026-01-31 12:01:00 UTC."
        " The last one failed: 421 try again later.",
    ),
    (
        "retrying",
        stand(),
        (wait("retry", "Send", attempt=2, max_attempts=5, last_error=ERROR),),
        {"missing": AWAY},
        "Retrying “Send”: attempt 2 of 5 comes next. The last one failed: 421 try again later."
        " Temporal cannot be reached, so this may be out of date.",
    ),
    (
        "step_paused",
        stand(),
        (wait("paused", "Send"),),
        {},
        "“Send” is paused.",
    ),
    ("step_paused", stand(), (Wait(kind="paused"),), {}, "Paused in Temporal by an operator."),
    ("running", stand(), (RUNNING,), {}, "Running “Send” since 2026-01-31 12:00:00 UTC."),
    (
        "running",
        stand(),
        (RUNNING.model_copy(update={"attempt": 2}),),
        {},
        "Running “Send” since 2026-01-31 12:00:00 UTC, attempt 2 of 5.",
    ),
    ("running", stand(), (), {}, "Under way between two steps."),
    (
        "temporal_unreachable",
        stand("queued"),
        (),
        {"missing": AWAY},
        "Under way; Temporal cannot be reached to say more.",
    ),
    (
        "run_unknown",
        stand(),
        (NAP,),
        {"missing": "run_unknown"},
        "Temporal does not know this run: it was deleted there, or its start is under way.",
    ),
    ("closing", stand(), (NAP,), {"missing": "run_over"}, "It has just ended; its rows follow in a moment."),
    (
        "approval",
        stand("waiting"),
        (wait("approval", until=at(60)),),
        {},
        "Waiting for a decision at “Ask” since 2026-01-31 12:00:00 UTC until 2026-01-31 13:00:00 UTC.",
    ),
    (
        "event",
        stand("waiting"),
        (wait("event", "Reply", events=["REPLIED", "WON"]),),
        {},
        "Waiting for REPLIED or WON at “Reply” since 2026-01-31 12:00:00 UTC.",
    ),
    (
        "execution",
        stand("waiting"),
        (wait("execution", "Sub", execution_id=ONE),),
        {},
        "Waiting at “Sub” for the run that it started to end since 2026-01-31 12:00:00 UTC.",
    ),
    ("sleeping", stand("waiting"), (NAP,), {}, "Sleeping at “Nap” until 2026-01-31 12:05:00 UTC."),
    (
        "sleeping",
        stand("waiting"),
        (NAP,),
        {"missing": AWAY},
        "Sleeping at “Nap” until 2026-01-31 12:05:00 UTC.",
    ),
    ("loop", stand(), (LOOP,), {}, "At item 17 of 300 of “Each guest”."),
    (
        "loop",
        stand(),
        (LOOP, wait("activity", "Send", attempt=1, loop_node_id="n", loop_visit=1)),
        {},
        "Running “Send” since 2026-01-31 12:00:00 UTC. This is item 17 of 300 of “Each guest”.",
    ),
    ("running", stand(), (LOOP, RUNNING), {}, "Running “Send” since 2026-01-31 12:00:00 UTC."),
    (
        "loop",
        stand(),
        (SIDE_BY_SIDE, wait("activity", "Send", attempt=1, loop_node_id="n", loop_visit=1)),
        {},
        "Running “Send” since 2026-01-31 12:00:00 UTC. 16 of 300 items of “Each guest” are over.",
    ),
    ("loop", stand(), (SIDE_BY_SIDE,), {}, "16 of 300 items of “Each guest” are over."),
    (
        "held",
        stand(),
        (NAP, RUNNING, HELD),
        {},
        "Held after “Change” failed: 421 try again later. Retry or skip it. 2 more steps are open.",
    ),
]


def told(given: Stand, waits: Sequence[Wait], more: dict[str, Any]) -> Why:
    return why(Case(given, waits, **more))


@pytest.mark.parametrize(("code", "given", "waits", "more", "sentence"), CASES)
def test_a_run_says_why_it_is_where_it_is(
    code: str, given: Stand, waits: Sequence[Wait], more: dict[str, Any], sentence: str
):
    answer = told(given, waits, more)
    assert (answer.code, answer.sentence) == (code, sentence)
    assert answer.facts["status"] == given.run.status
    assert (answer.facts.get("temporal") == "unreachable") == (more.get("missing") == AWAY)


def test_every_code_has_a_case():
    assert {code for code, *_ in CASES} == set(CODES)


def test_the_facts_hold_the_ids_and_times_behind_the_sentence():
    inside = RETRY.model_copy(update={"loop_node_id": "n", "loop_visit": 1})
    facts = told(stand(), (LOOP, inside), {}).facts
    assert (facts["node_id"], facts["step_id"], facts["attempt"]) == ("n", ONE, 3)
    assert facts["next_attempt_at"] == at(1)
    assert facts["last_error"] == ERROR
    assert (facts["loop"]["item"], facts["loop"]["items"]) == (17, 300)


def test_of_two_sleeps_the_one_that_ends_first_is_told():
    later = wait("timer", "Week", until=at(10_000))
    assert told(stand("waiting"), (later, NAP), {}).sentence.startswith("Sleeping at “Nap”")
