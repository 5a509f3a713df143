"""The mirror's rules on plain events, without a server: moments that a real run comes to only by chance."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from api.mirror.events import (
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
    Woke,
)
from tests.api.mirror.stage import START, graph, node
from tests.api.mirror.test_projection import told
from tests.workflows.drawn import execution
from workflows import walk
from workflows.failures import QUEUE_LIMITED
from workflows.graph import Graph, Loop, Node, summary
from workflows.messages import Begun, Command, Heard, Outcome, RunState, StepError
from workflows.rewind import rewind
from workflows.run import Run

MOMENT = datetime(2026, 11, 26, tzinfo=UTC)
BROKEN = StepError(type="broken", message="it broke")


class Story:
    """Writes a history, event by event."""

    def __init__(self, drawn: Graph, *, state: RunState | None = None) -> None:
        self.drawn = drawn
        self.events: list[Event] = []
        self.add(Started, run_id="run", continued_from="", input=execution(drawn, state=state))
        self.add(Recorded, key="begin", result=Begun(workspace={}, workflow={}))

    def add(self, kind: type[Event], **values: Any) -> "Story":
        number = len(self.events) + 1
        self.events.append(kind(number, MOMENT + timedelta(seconds=number), **values))
        return self

    def gave(self, key: str, **values: Any) -> "Story":
        return self.add(Recorded, key=key, result=Outcome(**values))

    def slept(self, key: str) -> "Story":
        return self.add(Slept, summary=summary(key, self.drawn.by_id[key.partition(":")[0]]))

    def broke(self, key: str) -> "Story":
        return self.add(Recorded, key=key, error=BROKEN, final=True)

    def rows(self, *cuts: int) -> dict[str, tuple[str, str | None, Any]]:
        """Tell what each step's row says, whichever way the history is cut into reads."""
        whole = told(UUID(int=1), [self.events], verbose=True)[0]
        for cut in range(1, len(self.events)):
            parts = [self.events[:cut], self.events[cut:]]
            assert told(UUID(int=1), parts, verbose=True)[0] == whole, f"cut behind event {cut}"
        return {key: (step.status, step.handle, step.error) for key, step in whole.steps.items()}

    def run(self) -> Run:
        return told(UUID(int=1), [self.events], verbose=True)[1].run


def loop(node_id: str, *, fails: bool = False, **fields: Any) -> Node:
    made = Loop(kind="each", cap=5, at_once=5, fails=fails)
    return node(node_id, "LOGIC_FOR_EACH", loop=made, **fields)


WAITS = graph(
    START, node("wait", "LOGIC_WAIT_FOR_EVENT"), node("paid"), edges=["start>wait", "wait:event_paid>paid"]
)
UNTIL = Outcome(handles=("timeout",), wake_at=MOMENT + timedelta(days=1), waits_for=("PAID",))
PAID = Heard(type="PAID", at=MOMENT)


def test_a_wait_whose_timer_fires_is_ended_by_its_last_look_and_not_by_the_timer():
    story = Story(WAITS).add(Recorded, key="wait:1", result=UNTIL).slept("wait:1")
    story.add(Signalled, heard=PAID).add(Woke, timer_id=4, fired=True)
    assert story.rows()["wait:1"] == ("running", "timeout", None)
    rows = (
        story.gave("wait:1", handles=("event_paid",)).gave("paid:1").add(RunEnded, status="completed").rows()
    )
    assert rows["wait:1"] == ("completed", "event_paid", None)
    assert rows["paid:1"] == ("completed", "default", None)


def test_a_delay_is_ended_by_its_timer():
    drawn = graph(START, node("nap", "LOGIC_DELAY"), edges=["start>nap"])
    story = Story(drawn).gave("nap:1", wake_at=MOMENT + timedelta(days=1)).slept("nap:1")
    assert story.add(Woke, timer_id=4, fired=True).rows()["nap:1"] == ("completed", "default", None)


@pytest.mark.parametrize("label", ["x" * 500, "x" * 119 + "…", "renamed since"])
def test_a_timer_is_known_by_its_key_however_the_release_that_wrote_it_cut_labels(label: str):
    drawn = graph(START, node("nap", "LOGIC_DELAY", label="x" * 500), edges=["start>nap"])
    story = (
        Story(drawn).gave("nap:1", wake_at=MOMENT + timedelta(days=1)).add(Slept, summary=f"nap:1 | {label}")
    )
    assert story.add(Woke, timer_id=4, fired=True).rows()["nap:1"] == ("completed", "default", None)


def test_what_a_limited_queue_put_off_is_no_attempt():
    drawn = graph(START, node("mail", "ACTION_SEND_EMAIL"), edges=["start>mail"])
    for type_, attempts in ((QUEUE_LIMITED, 1), ("smtp_unreachable", 2)):
        error = StepError(type=type_, message="x")
        story = Story(drawn).add(Recorded, key="mail:1", error=error).add(Scheduled, key="mail:1")
        story.add(PickedUp, scheduled_id=4, attempt=1).add(Closed, scheduled_id=4, result=Outcome())
        pages = told(UUID(int=1), [story.events], verbose=True)[0]
        assert pages.steps["mail:1"].attempt == attempts


def test_a_rerun_keeps_what_the_run_heard_and_when_it_began():
    story = Story(WAITS).add(Signalled, heard=PAID)
    for name in ("approve", "reject"):
        story.add(Commanded, name=name, command=Command(by="ada", step="ask:1", comment="why not"))
    run = story.broke("wait:1").add(RunEnded, status="failed").run()
    state = rewind(run, WAITS, trigger_id="start")
    assert state is not None
    assert [(event.type, event.data) for event in state.inbox] == [
        ("PAID", None),
        ("approval ask:1", {"approved": True, "by": "ada", "comment": "why not"}),
        ("approval ask:1", {"approved": False, "by": "ada", "comment": "why not"}),
    ]
    assert state.inbox[1].at == story.events[3].at
    assert state.began_at == story.events[0].at


def test_a_rerun_shows_what_it_kept_however_its_history_is_read():
    drawn = graph(START, node("a"), node("b"), node("c"), edges=["start>a", "a>b", "b>c"])
    old = Run(execution(drawn))
    old.start()
    for name in ("a", "b"):
        old.finish(f"{name}:1", Outcome(output={"from": name}))
    story = Story(drawn, state=rewind(old, drawn, trigger_id="start"))
    rows = story.gave("c:1").add(RunEnded, status="completed").rows()
    assert {key: row[0] for key, row in rows.items()} == dict.fromkeys(
        ("start:1", "a:1", "b:1", "c:1"), "completed"
    )


def nested(**outer: Any) -> Story:
    drawn = graph(
        START,
        loop("outer", **outer),
        loop("inner"),
        node("work"),
        node("beside"),
        node("after"),
        edges=[
            "start>outer",
            "outer:each>inner",
            "inner:each>work",
            "outer:each>beside",
            "outer:error>after",
        ],
    )
    return Story(drawn).gave("outer:1", items=(1,)).gave("inner:1", items=(1, 2))


def test_an_inner_loop_is_cancelled_with_its_item_however_its_history_is_read():
    rows = nested().broke("beside:1").rows()
    assert {rows[key][0] for key in ("inner:1", "work:1", "work:2")} == {"cancelled"}
    assert rows["outer:1"][0] == "completed"


def test_a_loop_that_takes_breath_goes_on_with_its_timer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(walk, "BREATH", 2)
    drawn = graph(START, loop("all"), node("off", disabled=True), edges=["start>all", "all:each>off"])
    story = Story(drawn).gave("all:1", items=(1, 2, 3, 4, 5))
    assert story.rows()["all:1"][0] == "running"
    rows = story.slept("all:1").add(Woke, timer_id=4, fired=True).rows()
    assert rows["all:1"][0] == "completed"
    assert [rows[f"off:{visit}"][0] for visit in range(1, 6)] == ["skipped"] * 5


@pytest.mark.parametrize("on_error", ["branch", "continue"])
def test_a_loop_that_failed_with_its_item_is_shown_as_failed(on_error: str):
    rows = nested(fails=True, on_error=on_error).broke("beside:1").rows()
    status, handle, error = rows["outer:1"]
    assert (status, handle) == ("failed", "error" if on_error == "branch" else "done")
    assert error == {"type": "item_failed", "message": "Item 0 failed: it broke"}
