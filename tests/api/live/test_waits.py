"""What an open run waits for, from its rows, from the mirror's state and from what Temporal says."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from api.live.describer import Described, Pending
from api.live.waits import Scene, Wait
from api.mirror.state import OpenStep, State
from db.live import NodeFacts, Stand
from db.models import ExecutionStep, WorkflowExecution
from workflows.frames import Items, WalkState
from workflows.graph import Edge, Loop, step_key
from workflows.messages import Outcome, RunState, StepError

T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = T0 + timedelta(hours=1)
ONE = UUID(int=1)
BROKEN = StepError(type="broken", message="it broke")
NODES = {"n": NodeFacts("ACTION_SEND_EMAIL", "Send", {"maxAttempts": 7})}


def scene(
    run: RunState | None = None, described: Described | None = None, *, has_step: bool = True, **opened: Any
) -> Scene:
    """Set a run whose step n:1 is open."""
    steps = {"n:1": OpenStep(number=2, decided_at=T0, started_at=T0, **opened)} if has_step else {}
    state = State(run=run or RunState(), steps=steps).model_dump(mode="json", exclude_defaults=True)
    row = ExecutionStep(id=ONE, node_id="n", node_type="ACTION_SEND_EMAIL", label="Send", visit=1)
    stand = Stand(
        WorkflowExecution(id=ONE, status="running", queued_at=T0),
        1,
        "Inquiries",
        "active",
        state,
        [row],
        NODES,
    )
    return Scene(stand, described)


def only(given: Scene) -> Wait:
    """Give the one thing that a run waits for."""
    (wait,) = given.waits()
    return wait


def described(pending: Pending | None = None, **more: Any) -> Described:
    return Described(run_id="r", pending={"n:1": pending} if pending else {}, **more)


def resting(**outcome: Any) -> Scene:
    return scene(RunState(sleeping={"n:1": Outcome(**outcome)}), described())


def test_what_rests_is_told_by_what_wakes_it():
    nap = only(resting(wake_at=LATER))
    assert (nap.kind, nap.until, nap.label, nap.step_id) == ("timer", LATER, "Send", ONE)
    event = only(resting(wake_at=LATER, waits_for=("WON",)))
    assert (event.kind, event.events, event.until) == ("event", ["WON"], LATER)
    assert only(resting(waits_for=("approval n:1",))).kind == "approval"
    other = only(resting(waits_for=(f"execution {ONE}",)))
    assert (other.kind, other.execution_id) == ("execution", ONE)


def test_a_held_step_is_told_with_its_failure_and_one_that_ends_the_run_is_not():
    failed: dict[str, Any] = {"failed": True, "error": BROKEN.model_dump(), "attempt": 5}
    held = only(scene(RunState(held={"n:1": BROKEN}), described(), **failed))
    assert (held.kind, held.attempt) == ("held", 5)
    assert held.last_error is not None
    assert held.last_error.message == "it broke"
    assert scene(RunState(), described(), **failed).waits() == []


def test_a_loop_is_told_by_its_items():
    walk = WalkState(loops={"n:1": Items(count=300, begun=17, ended=16, failed=2)})
    loop = only(scene(RunState(walk=walk), described()))
    assert (loop.kind, loop.item, loop.items, loop.failed_items) == ("loop", 17, 300, 2)


LOOP = {
    "each": NodeFacts("LOGIC_FOR_EACH", "Each", {}, Loop(kind="each", cap=10)),
    "inner": NodeFacts("LOGIC_FOR_EACH", "Inner", {}, Loop(kind="each", cap=4, at_once=2)),
    **{name: NodeFacts("UTILITY_LOG", name, {}) for name in ("start", "in", "deep", "out")},
}
EDGES = [
    Edge(id=f"{source}>{target}", source=source, target=target, source_handle=handle)
    for source, target, handle in (
        ("start", "each", None),
        ("each", "in", "each"),
        ("each", "out", "done"),
        ("in", "inner", None),
        ("inner", "deep", "each"),
    )
]


def test_what_waits_inside_a_loop_names_the_loop_around_it_and_what_waits_beside_does_not():
    keys = ("each:2", "inner:13", "in:13", "deep:49", "deep:50", "out:1")
    loops = {"each:2": Items(count=9, begun=3, ended=2), "inner:13": Items(count=4, begun=2)}
    steps = {key: OpenStep(number=n, decided_at=T0) for n, key in enumerate(keys)}
    state = State(run=RunState(walk=WalkState(loops=loops)), steps=steps).model_dump(mode="json")
    run = WorkflowExecution(id=ONE, status="running", queued_at=T0)
    found = Scene(Stand(run, 1, "Inquiries", "active", state, [], LOOP, EDGES), described()).waits()
    assert {step_key(each.node_id or "", each.visit or 0): each.loop_node_id for each in found} == {
        "each:2": None,
        "inner:13": "each",
        "in:13": "each",
        "deep:49": "inner",
        "deep:50": "inner",
        "out:1": None,
    }
    assert [each.loop_visit for each in found] == [None, 2, 2, 13, 13, None]
    assert [each.ended_items for each in found] == [None, 0, None, None, None, None]


def test_an_attempt_counts_from_the_steps_first():
    pending = Pending(state="running", attempt=2, started_at=T0, seconds=60, worker="7@here", error=BROKEN)
    work = only(scene(described=described(pending), tried=1))
    assert (work.kind, work.attempt, work.max_attempts, work.worker) == ("activity", 3, 7, "7@here")
    assert work.until == T0 + timedelta(seconds=60)


def test_a_retry_is_not_due_yet_and_what_is_due_waits_for_a_worker():
    retry = only(
        scene(described=described(Pending(state="scheduled", attempt=2, next_at=LATER, error=BROKEN)))
    )
    assert (retry.kind, retry.next_attempt_at, retry.until) == ("retry", LATER, LATER)
    new = Pending(state="scheduled", scheduled_at=T0, queue="q-mail")
    queued = only(scene(described=described(new)))
    assert (queued.kind, queued.queue, queued.has_workers, queued.since) == ("queued", "q-mail", True, T0)
    alone = only(scene(described=described(new, unpolled=frozenset({"q-mail"}))))
    assert alone.has_workers is False


def test_an_activity_that_an_operator_paused_is_told_without_their_words():
    paused = only(scene(described=described(Pending(state="paused", attempt=2))))
    assert (paused.kind, paused.attempt) == ("paused", 2)


def test_a_step_without_an_activity_is_at_work_paused_or_waits_for_a_worker():
    assert only(scene(described=described())).kind == "activity"
    assert only(scene(RunState(paused=True), described())).kind == "paused"
    assert only(scene(described=described(is_paused=True))).kind == "paused"
    waiting = only(scene(described=described(task_since=T0, queue="q", unpolled=frozenset({"q"}))))
    assert (waiting.kind, waiting.has_workers) == ("queued", False)
    failed = only(scene(described=described(), error=BROKEN.model_dump(), attempt=1))
    assert (failed.kind, failed.attempt) == ("retry", 2)


def test_what_the_mirror_has_not_read_yet_is_told_from_the_graph():
    wait = only(scene(described=described(Pending(state="running", started_at=T0)), has_step=False))
    assert (wait.kind, wait.label, wait.node_type) == ("activity", "Send", "ACTION_SEND_EMAIL")


def test_a_run_that_no_worker_has_begun_waits_as_a_whole():
    wait = only(scene(described=described(task_since=T0, queue="q"), has_step=False))
    assert (wait.kind, wait.step_id, wait.since) == ("queued", None, T0)
    assert only(scene(described=described(is_paused=True), has_step=False)).kind == "paused"
    assert scene(described=described(), has_step=False).waits() == []


def test_without_temporal_the_rows_still_tell_what_rests():
    assert only(scene(RunState(sleeping={"n:1": Outcome(wake_at=LATER)}))).kind == "timer"
    assert only(scene()).kind == "activity"
