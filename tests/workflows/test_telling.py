"""What the Temporal Web UI shows of a run: Markdown of ids, names and labels, no more than addresses take."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from tests.workflows.drawn import NOBODY, edges, execution, log, trigger
from workflows import telling
from workflows.graph import Graph, Loop, Node, summary
from workflows.messages import Begun, Outcome, RunState, StepError
from workflows.run import Run

LATER = datetime(2030, 1, 2, 9, 5, tzinfo=UTC)
OTHER = UUID(int=7)
PRIVATE = "ada@example.com"


def started(*nodes: Node, pairs: tuple[str, ...] = ()) -> Run:
    """Begin a run that knows a person."""
    lead: dict[str, Any] = {"email": PRIVATE}
    run = Run(execution(Graph(nodes=(trigger(), *nodes), edges=edges(*pairs)), trigger_data=lead))
    run.admit(Begun(workspace={"name": "w"}, workflow={"id": "w"}, lead=lead))
    run.start()
    return run


def rows(text: str) -> dict[str, str]:
    """Read the table back: each step's state by its key."""
    found = re.findall(r"^\| `?([^|`]+?)`? \| (?:\\\||[^|])* \| (.*) \|$", text, re.MULTILINE)
    return {key: state for key, state in found if key not in ("Step", ":--")}


def told(run: Run, **values: Any) -> str:
    return telling.progress(run, failures=values.pop("failures", {}), **values)


def test_details_name_the_run_and_lead_on_to_it():
    given = execution(
        Graph(nodes=(trigger(),), edges=()), lead_id=OTHER, awaited_by=OTHER, trigger_data={"email": PRIVATE}
    )
    text = telling.details(given, workflow_name="Call back", public_url="https://ft.example")
    assert text.splitlines() == [
        "- **Workflow** Call back, version 1",
        "- **Trigger** MANUAL",
        f"- **Execution** `{NOBODY}`",
        f"- **Lead** `{OTHER}`",
        f"- **Waited for by** [execution-{OTHER}](./namespaces/{{namespace}}/workflows/execution-{OTHER})",
        f"- **In the API** [execution](https://ft.example/v1/executions/{NOBODY})"
        f" · [steps](https://ft.example/v1/executions/{NOBODY}/steps)"
        f" · [logs](https://ft.example/v1/executions/{NOBODY}/logs)",
    ]
    assert len(telling.details(execution(given.graph), workflow_name="x").splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Say thank you", "Say thank you"),
        ("[click](http://evil.example)", r"\[click\] (http\://evil.example)"),
        ("a | b", r"a \| b"),
        ("<b>*bold*</b> `code` {runId}", r"\<b\>\*bold\*\</b\> \`code\` \{runId\}"),
        ("two\n lines", "two lines"),
        ("x" * 100, "x" * 59 + "…"),
    ],
)
def test_a_label_is_shown_as_it_is_and_is_never_markup(text: str, shown: str):
    assert telling.escaped(text) == shown


@pytest.mark.parametrize("character", ["x", "界"])
def test_a_summary_begins_with_the_whole_key_and_is_cut_where_the_web_ui_cuts_it(character: str):
    line = summary("n" * 150 + ":1", log("n", label=character * 500))
    key, _, label = line.partition(" | ")
    assert key == "n" * 150 + ":1"
    assert len(label) == 120
    assert label.endswith("…")


def test_each_step_is_told_as_it_stands():
    run = started(
        log("done"), log("asleep"), log("at_work"), log("after"), log("lone"),
        pairs=("start>done", "start>asleep", "start>at_work", "done.default>after"),
    )  # fmt: skip
    run.finish("done:1", Outcome(output={"email": PRIVATE}, handles=("none",)))
    run.state.sleeping["asleep:1"] = Outcome(wake_at=LATER, waits_for=("PAID", "a|b"))
    text = told(run)
    assert text.startswith("**Under way** · 4 of 6 steps are over")
    assert rows(text) == {
        "start:1": "completed",
        "lone:1": "skipped",
        "asleep:1": r"waiting until 2030-01-02 09\:05 UTC for PAID, a\|b",
        "at_work:1": "running",
        "done:1": "completed",
        "after:1": "skipped",
    }
    assert PRIVATE not in text


def test_a_step_that_somebody_skipped_is_told_as_skipped_in_the_next_history_too():
    run = started(log("bad"), log("after"), pairs=("start>bad", "bad>after"))
    run.state.held["bad:1"] = StepError(type="smtp_refused", message=PRIVATE)
    run.skip("bad:1")
    assert rows(told(run)) == {"start:1": "completed", "bad:1": "skipped", "after:1": "running"}
    state = RunState.model_validate_json(run.state.model_dump_json())
    assert rows(told(Run(execution(run.graph), state)))["bad:1"] == "skipped"
    # Who asks twice skips it once.
    run.skip("bad:1")
    assert run.state.skipped == ["bad:1"]


def test_nodes_that_are_not_reached_yet_are_there_without_a_state():
    run = started(log("three"), log("two"), log("one"), pairs=("start>one", "one>two", "two>three"))
    assert list(rows(told(run)).items())[-2:] == [("two:1", "not reached"), ("three:1", "not reached")]
    assert told(Run(execution(run.graph))).startswith("**Not begun** · 0 of 4")


def test_the_way_a_step_left_by_is_named():
    run = started(
        Node(id="if", type="LOGIC_CONDITION", save_as="if"), log("yes"), log("no"),
        pairs=("start>if", "if.condition_true>yes", "if.condition_false>no"),
    )  # fmt: skip
    run.finish("if:1", Outcome(handles=("condition_true",)))
    assert rows(told(run))["if:1"] == r"completed → condition\_true"


def test_a_run_that_is_waited_for_is_linked():
    child = Node(id="child", type="ACTION_START_WORKFLOW", save_as="child", config={"workflowId": str(OTHER)})
    run = started(child, pairs=("start>child",))
    run.state.sleeping["child:1"] = Outcome(waits_for=(f"execution {OTHER}",))
    link = f"[execution-{OTHER}](./namespaces/{{namespace}}/workflows/execution-{OTHER})"
    assert told(run).startswith("**Waiting**")
    assert rows(told(run))["child:1"] == f"waiting for {link}"
    run.finish("child:1", Outcome(output={"execution_id": str(OTHER)}))
    assert rows(told(run))["child:1"] == f"completed, started {link}"
    assert told(run).startswith("**Over** · 2 of 2")


def test_a_held_step_and_one_that_asks_say_what_can_be_sent():
    ask = Node(id="ask", type="LOGIC_APPROVAL", save_as="ask")
    run = started(log("mail"), ask, pairs=("start>mail", "start>ask"))
    run.state.held["mail:1"] = StepError(type="smtp_refused", message=f"{PRIVATE} is unknown")
    run.state.sleeping["ask:1"] = Outcome(waits_for=("approval ask:1",))
    text = told(run)
    assert text.startswith("**Held by a failure**")
    assert rows(text) == {
        "start:1": "completed",
        "mail:1": r"held: smtp\_refused",
        "ask:1": "waiting for a decision",
    }
    assert 'Send the update `retry_step` or `skip_step` with `{"step": "mail:1"}`.' in text
    assert 'Send the update `approve` or `reject` with `{"step": "ask:1", "by": "your name"}`.' in text
    assert PRIVATE not in text


@pytest.mark.parametrize(
    ("change", "headline", "state"),
    [
        ({}, "Under way", "running"),
        ({"paused": True}, "Paused", "held by the pause"),
        ({"is_cancelled": True}, "Cancelled", "cancelled"),
        ({"failures": {"one:1": StepError(type="timed_out", message="x")}}, "Failed", r"failed: timed\_out"),
    ],
)
def test_the_headline_says_how_the_run_stands(change: dict[str, Any], headline: str, state: str):
    run = started(log("one"), pairs=("start>one",))
    run.state.paused = bool(change.pop("paused", False))
    text = told(run, **change)
    assert text.startswith(f"**{headline}** · 1 of 2")
    assert rows(text)["one:1"] == state


def test_a_loop_tells_how_many_items_are_over_and_shows_only_what_is_under_way():
    head = Node(
        id="each", type="LOGIC_FOR_EACH", save_as="each", loop=Loop(kind="each", cap=100, at_once=2),
        config={"items": "{{ x }}"},
    )  # fmt: skip
    run = started(
        head, log("inner"), log("after"), pairs=("start>each", "each.each>inner", "each.done>after")
    )
    run.finish("each:1", Outcome(items=("a", "b", "c")))
    run.finish("inner:1", Outcome())
    assert rows(told(run)) == {
        "start:1": "completed",
        "each:1": "running: 1 of 3 items are over, 0 failed",
        "inner:2": "running",
        "inner:3": "running",
        "after:1": "not reached",
    }
    for key in ("inner:2", "inner:3"):
        run.finish(key, Outcome())
    assert rows(told(run)) == {
        "start:1": "completed", "each:1": "completed → done", "after:1": "running",
        "inner": "repeated by `each`",
    }  # fmt: skip


@pytest.mark.parametrize("count", [5, 200, 3_000])
def test_of_many_steps_those_that_matter_fit_into_an_address(count: int):
    names = [f"node_{number}" for number in range(count)]
    pairs = ["start>node_0", *(f"{a}>{b}" for a, b in pairwise(names))]
    run = started(*(log(name, label="Ünïcode | label " * 5) for name in names), pairs=tuple(pairs))
    for name in names[: count // 2]:
        run.finish(f"{name}:1", Outcome())
    text = told(run)
    assert len(quote(text)) < 6_000
    assert rows(text)[f"node_{count // 2}:1"] == "running"
    assert rows(text)[f"node_{count // 2 - 1}:1"] == "completed"
    numbers = [int(key[5:-2]) for key in rows(text) if key.startswith("node_")]
    assert numbers == sorted(numbers)
    assert ("more steps are not shown" in text) is (count > 5)
