"""A run carries its data along the walk, and goes on from its state as if nothing had happened."""

import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue
from temporalio import workflow
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.workflows.drawn import NOBODY, edges, execution, log, merge, scripted_graphs, trigger
from tests.workflows.naive import Script, Told, interpret
from workflows.execution import ExecutionWorkflow
from workflows.graph import Edge, Graph, Node
from workflows.messages import Begun, Command, Ending, Heard, Outcome, RunState, StepError, StepInput
from workflows.room import bytes_of
from workflows.run import (
    EVENT_WEIGHT,
    INBOX_CAP,
    INBOX_WEIGHT,
    PASSED_CAP,
    Event,
    Passed,
    Ready,
    Run,
    Skipped,
    heaviness,
)

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def names(events: list[Event]) -> list[str]:
    return [f"{type(event).__name__} {event.node.id}" for event in events]


def started(graph: Graph, **values: object) -> tuple[Run, list[Event]]:
    run = Run(execution(graph, **values))
    run.admit(Begun(workspace={"timezone": "Europe/Oslo"}, workflow={"id": "w"}, lead={"name": "Ada"}))
    return run, run.start()


@dataclass
class Played:
    """What happened in a run, in order."""

    events: list[Event] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def told(self) -> Told:
        return Told(
            ran=frozenset(e.node.id for e in self.events if not isinstance(e, Skipped)),
            skipped={e.node.id: e.reason for e in self.events if isinstance(e, Skipped)},
        )


class Player:
    """Plays a run by a script, and watches the order in which nodes are decided and end."""

    def __init__(self, graph: Graph, script: Script, dice: Random) -> None:
        self.graph, self.script, self.dice = graph, script, dice
        self.start = execution(graph)
        self.run = Run(self.start)
        self.played = Played()
        self._take(self.run.start())

    def step(self) -> bool:
        """End one of the steps that are ready; False if there is none."""
        ready = self.run.state.ready
        if not ready:
            return False
        key = ready[self.dice.randrange(len(ready))]
        node = self.run.node_of(key)
        conditions = {e.id: self.script.holds[e.id] for e in self.graph.outgoing[node.id] if e.condition}
        outcome = Outcome(output=node.id, handles=self.script.handles[node.id], conditions=conditions)
        self.played.ended.append(node.id)
        self._take(self.run.finish(key, outcome))
        return True

    def to_the_end(self) -> Played:
        while self.step():
            pass
        return self.played

    def reborn(self) -> None:
        """Carry the state over as continue-as-new does: as JSON, to another run."""
        state = RunState.model_validate_json(self.run.state.model_dump_json())
        self.run = Run(self.start.model_copy(update={"state": state}))

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if not isinstance(event, Ready):
                self.played.ended.append(event.node.id)
            self._check_order(event)
            self.played.events.append(event)

    def _check_order(self, event: Event) -> None:
        before = [self._has_ended(edge, event) for edge in self.graph.incoming[event.node.id]]
        is_first = event.node.join == "first" and not (
            isinstance(event, Skipped) and event.reason != "disabled"
        )
        assert not before or (any(before) if is_first else all(before)), event

    def _has_ended(self, edge: Edge, event: Event) -> bool:
        ended = self.played.ended
        return edge.source in ended[: -1 if ended[-1:] == [event.node.id] else None]


@settings(max_examples=500, deadline=None)
@given(scripted_graphs(), st.integers())
def test_a_run_visits_what_the_naive_interpreter_says_and_nothing_before_its_time(
    drawn: tuple[Graph, Script], seed: int
):
    graph, script = drawn
    played = Player(graph, script, Random(seed)).to_the_end()
    assert played.told() == interpret(graph, "start", script)
    assert len(played.events) == len(graph.nodes) == len({event.key for event in played.events})


@settings(max_examples=200, deadline=None)
@given(scripted_graphs(size=40), st.integers(), st.sets(st.integers(0, 40), max_size=5))
def test_a_run_reborn_from_its_json_goes_on_the_same(
    drawn: tuple[Graph, Script], seed: int, moments: set[int]
):
    graph, script = drawn
    straight, broken = (Player(graph, script, Random(seed)) for _ in range(2))
    straight.to_the_end()
    for moment in range(len(graph.nodes) + 1):
        if moment in moments:
            broken.reborn()
        broken.step()
    assert broken.played == straight.played
    assert broken.run.state == straight.run.state


@settings(max_examples=100, deadline=None)
@given(scripted_graphs(size=20), scripted_graphs(size=20), st.integers())
def test_two_runs_over_the_same_node_ids_never_mix(
    one: tuple[Graph, Script], other: tuple[Graph, Script], seed: int
):
    dice = Random(seed)
    players = [Player(*one, Random(0)), Player(*other, Random(0))]
    open_ones = list(players)
    while open_ones:
        player = dice.choice(open_ones)
        if not player.step():
            open_ones.remove(player)
    for player, (graph, script) in zip(players, (one, other), strict=True):
        assert player.played.told() == interpret(graph, "start", script)


def test_ten_thousand_passing_nodes_in_a_row_need_no_recursion_and_no_activity():
    nodes: list[Node] = [trigger(), *(merge(f"n{number}", combine="first") for number in range(9_999))]
    path = [Edge(id=str(n), source=nodes[n].id, target=nodes[n + 1].id) for n in range(9_999)]
    run, events = started(Graph(nodes=tuple(nodes), edges=tuple(path)))
    assert len(events) == 10_000
    assert {type(event) for event in events} == {Passed}
    assert run.state.ready == []


def _merges_of_merges(rungs: int) -> Graph:
    """Draw a ladder of merges, each of which holds twice what the one before it held."""
    nodes: list[Node] = [trigger()]
    lines: list[str] = []
    for number in range(rungs):
        top = nodes[-1].id
        nodes += [merge(f"{side}{number}") for side in "lrj"]
        lines += [f"{top}>{side}{number}" for side in "lr"] + [f"{side}{number}>j{number}" for side in "lr"]
    return Graph(nodes=tuple(nodes), edges=edges(*lines))


def test_a_merge_that_would_hold_too_much_is_left_to_an_activity_which_refuses_it():
    run, events = started(_merges_of_merges(20), trigger_data={"text": "x" * 1000})
    assert isinstance(events[-1], Ready)
    assert run.state.ready == [events[-1].key]
    assert len(json.dumps(run.state.outputs)) < 4 * PASSED_CAP


def test_merges_nested_without_end_are_left_to_activities_before_they_cannot_be_written():
    nodes = [trigger(), *(merge(f"n{number}") for number in range(300))]
    path = [Edge(id=str(n), source=nodes[n].id, target=nodes[n + 1].id) for n in range(300)]
    _, events = started(Graph(nodes=tuple(nodes), edges=tuple(path)))
    assert isinstance(events[-1], Ready)
    assert len(events) < 50


def test_the_trigger_hands_its_data_on_and_a_step_reads_only_what_it_names():
    reader = log("read", reads=("trigger.email", "steps.start.email", "lead.fax", "workspace.timezone"))
    graph = Graph(nodes=(trigger(), reader), edges=edges("start>read"))
    run, events = started(graph, trigger_data={"email": "a@example.com", "secret": "x"})
    assert names(events) == ["Passed start", "Ready read"]
    assert run.scope_for(reader) == {
        "trigger": {"email": "a@example.com"},
        "steps": {"start": {"email": "a@example.com"}},
        "lead": {},
        "workspace": {"timezone": "Europe/Oslo"},
    }


@pytest.mark.parametrize(
    ("combine", "combined"),
    [("by_branch", {"left": "L", "right": "R"}), ("list", ["L", "R"]), ("first", "L")],
)
def test_a_merge_combines_what_arrived_in_the_order_of_its_edges(combine: str, combined: JsonValue):
    graph = Graph(
        nodes=(trigger(), log("left"), log("right"), log("dead"), merge("end", combine=combine)),
        edges=edges("start>left", "start>right", "start.no>dead", "left>end", "right>end", "dead>end"),
    )
    run, _ = started(graph)
    run.finish("right:1", Outcome(output="R"))
    [event] = run.finish("left:1", Outcome(output="L"))
    assert isinstance(event, Passed)
    assert event.outcome.output == run.state.outputs["end"] == combined


def test_a_merge_of_the_first_holds_only_what_was_there():
    graph = Graph(
        nodes=(trigger(), log("left"), log("right"), merge("end", "first")),
        edges=edges("start>left", "start>right", "left>end", "right>end"),
    )
    run, _ = started(graph)
    run.finish("right:1", Outcome(output="R"))
    assert run.finish("left:1", Outcome(output="L")) == []
    assert run.state.outputs["end"] == {"right": "R"}


def test_a_merge_with_a_rule_on_its_edge_needs_the_rule_weighed():
    ruled = Edge(id="out", source="end", target="after", condition={"field": "x", "operator": "exists"})
    graph = Graph(nodes=(trigger(), merge("end"), log("after")), edges=(*edges("start>end"), ruled))
    run, events = started(graph)
    assert names(events) == ["Passed start", "Ready end"]
    assert [rule.edge_id for rule in run.edge_rules(run.node_of("end:1"))] == ["out"]
    assert names(run.finish("end:1", Outcome(conditions={"out": True}))) == ["Ready after"]


def test_variables_add_up_and_the_last_value_counts():
    graph = Graph(nodes=(trigger(), log("a"), log("b")), edges=edges("start>a", "a>b"))
    run, _ = started(graph)
    run.finish("a:1", Outcome(vars={"x": 1, "y": {"z": 2}}))
    assert run.scope_for(log("b", reads=("vars.x", "vars.y.z"))) == {"vars": {"x": 1, "y": {"z": 2}}}
    run.finish("b:1", Outcome(vars={"x": 3}))
    assert run.state.vars == {"x": 3, "y": {"z": 2}}


def test_an_output_is_read_under_its_own_name_and_a_step_that_did_not_run_has_none():
    graph = Graph(
        nodes=(trigger(), log("node-1", save_as="answer"), log("dead"), log("end")),
        edges=edges("start>node-1", "start.no>dead", "node-1>end"),
    )
    run, _ = started(graph)
    run.finish("node-1:1", Outcome(output={"status": 200}))
    assert run.scope_for(log("end", reads=("steps.answer.status", "steps.node-1", "steps.dead"))) == {
        "steps": {"answer": {"status": 200}}
    }
    assert run.scope_for(log("end", reads=("steps",)))["steps"].keys() == {"start", "answer"}


FAILED = StepError(type="smtp", message="no route")


@pytest.mark.parametrize(
    ("on_error", "handles", "follows"),
    [
        ("fail", None, []),
        ("continue", ("default",), ["Ready next", "Skipped rescue"]),
        ("branch", ("error",), ["Skipped next", "Ready rescue"]),
    ],
)
def test_a_failed_step_goes_on_as_its_node_says(on_error: str, handles: object, follows: list[str]):
    graph = Graph(
        nodes=(trigger(), log("try", on_error=on_error), log("next"), log("rescue")),
        edges=edges("start>try", "try>next", "try.error>rescue"),
    )
    run, _ = started(graph)
    outcome = run.recover("try:1", FAILED)
    assert (outcome and outcome.handles) == handles
    if outcome is not None:
        assert names(run.finish("try:1", outcome)) == follows
        assert run.state.outputs["try"] == {"error": {"type": "smtp", "message": "no route"}}


def test_a_node_that_exists_to_fail_fails_whatever_its_on_error_says():
    fail = Node(id="f", type="UTILITY_FAIL", on_error="continue", config={"message": "stop"})
    run, _ = started(Graph(nodes=(trigger(), fail), edges=edges("start>f")))
    assert run.recover("f:1", FAILED) is None


def test_a_disabled_node_is_skipped_and_its_branch_goes_on_by_the_first_handle():
    fork = Node(id="if", type="LOGIC_CONDITION", disabled=True, save_as="if", config={"disabled": True})
    graph = Graph(
        nodes=(trigger(), fork, log("then"), log("else")),
        edges=edges("start>if", "if.condition_true>then", "if.condition_false>else"),
    )
    run, events = started(graph)
    assert names(events) == ["Passed start", "Skipped if", "Ready then", "Skipped else"]
    assert [e.reason for e in events if isinstance(e, Skipped)] == ["disabled", "branch_not_taken"]
    assert "if" not in run.state.outputs


def test_a_disabled_node_that_no_branch_reaches_is_skipped_for_that_reason():
    graph = Graph(
        nodes=(trigger(), log("off", disabled=True), log("after")),
        edges=edges("start.no>off", "off>after"),
    )
    _, events = started(graph)
    assert {e.node.id: e.reason for e in events if isinstance(e, Skipped)} == {
        "off": "branch_not_taken",
        "after": "branch_not_taken",
    }


def test_a_trigger_cannot_be_disabled():
    graph = Graph(nodes=(trigger().model_copy(update={"disabled": True}), log("a")), edges=edges("start>a"))
    assert names(started(graph)[1]) == ["Passed start", "Ready a"]


def test_after_a_sleep_the_lead_is_read_afresh():
    waits = Node(id="wait", type="LOGIC_DELAY", save_as="wait", config={"duration": "P14D"})
    reader = log("read", reads=("lead.name",))
    graph = Graph(
        nodes=(trigger(), waits, reader, log("next", reads=("trigger.x",))),
        edges=edges("start>wait", "wait>read", "start>next"),
    )
    run, _ = started(graph)
    assert not run.must_load_lead(reader)
    slept = Outcome(wake_at=LATER)
    run.state.sleeping["wait:1"] = slept
    run.finish("wait:1", slept)
    assert run.state.lead is None
    assert run.state.sleeping == {}
    assert run.must_load_lead(reader)
    assert not run.must_load_lead(run.node_of("next:1"))
    run.finish("read:1", Outcome(lead={"name": "Grace", "timezone": "Asia/Tokyo"}))
    assert run.scope_for(reader) == {"lead": {"name": "Grace"}}
    assert not run.must_load_lead(reader)
    assert run.zone() == "Asia/Tokyo"


def test_the_zone_is_the_workspaces_where_the_lead_has_none():
    run, _ = started(Graph(nodes=(trigger(),), edges=()))
    assert run.zone() == "Europe/Oslo"


def test_the_last_end_reached_is_the_runs_result():
    graph = Graph(nodes=(trigger(), log("a"), log("b")), edges=edges("start>a", "start>b"))
    run, _ = started(graph)
    run.finish("a:1", Outcome(handles=(), ending=Ending(outcome="won")))
    run.finish("b:1", Outcome(handles=(), ending=Ending(outcome="lost", output=1)))
    assert run.state.ending == Ending(outcome="lost", output=1)


def test_a_run_that_carries_on_knows_outputs_variables_and_who_is_asleep():
    graph = Graph(
        nodes=(trigger(), log("a"), log("b", reads=("steps.a", "vars.x"))), edges=edges("start>a", "a>b")
    )
    run, _ = started(graph)
    run.finish("a:1", Outcome(output={"n": 1}, vars={"x": [1]}))
    run.state.sleeping["b:1"] = Outcome(wake_at=LATER)
    state = RunState.model_validate_json(run.state.model_dump_json())
    again = Run(execution(graph, state=state, facts=run.facts))
    assert again.state == run.state
    assert again.state.sleeping["b:1"].wake_at == LATER
    assert again.scope_for(graph.by_id["b"]) == {"steps": {"a": {"n": 1}}, "vars": {"x": [1]}}
    assert again.facts.execution == {"id": str(NOBODY), "version": 1}


def test_a_key_that_names_no_step_is_not_a_nodes():
    run, _ = started(Graph(nodes=(trigger(),), edges=()))
    for key in ("begin", "nobody:1"):
        with pytest.raises(KeyError):
            run.node_of(key)


def test_a_step_that_waited_for_a_run_takes_only_that_runs_word_out_of_the_inbox():
    call = Node(id="call", type="ACTION_START_WORKFLOW", save_as="call", config={"workflowId": str(NOBODY)})
    run, _ = started(Graph(nodes=(trigger(), call), edges=edges("start>call")))
    for type_ in ("execution 1", "execution 2", "PAID"):
        run.hear(Heard(type=type_, at=LATER))
    run.state.sleeping["call:1"] = Outcome(waits_for=("execution 1",))
    assert run.what_waits_need("call:1")["heard"] == tuple(run.state.inbox)
    run.finish("call:1", Outcome())
    assert [event.type for event in run.state.inbox] == ["execution 2", "PAID"]


def test_what_a_step_took_out_of_the_inbox_weighs_nothing_any_more():
    call = Node(id="call", type="ACTION_START_WORKFLOW", save_as="call", config={"workflowId": str(NOBODY)})
    run, _ = started(Graph(nodes=(trigger(), call), edges=edges("start>call")))
    heavy: JsonValue = {"text": "x" * (EVENT_WEIGHT - 100)}
    for type_ in ("execution 1", "execution 1", "PAID"):
        run.hear(Heard(type=type_, at=LATER, data=heavy))
    run.state.sleeping["call:1"] = Outcome(waits_for=("execution 1",))
    run.finish("call:1", Outcome())
    for _ in range(3):
        run.hear(Heard(type="SENT", at=LATER, data=heavy))
    assert [event.type for event in run.state.inbox] == ["PAID", "SENT", "SENT", "SENT"]
    for _ in range(INBOX_CAP + 1):
        run.hear(Heard(type="NOISE", at=LATER))
    assert len(run.state.inbox) == INBOX_CAP


def test_a_step_that_is_tried_again_begins_anew_and_knows_how_often():
    run, _ = started(Graph(nodes=(trigger(), log("a")), edges=edges("start>a")))
    run.state.sleeping["a:1"] = Outcome(waits_for=("PAID",))
    run.state.held["a:1"] = StepError(type="e", message="m")
    run.retry("a:1")
    run.retry("a:1")
    assert (run.state.sleeping, run.state.held) == ({}, {})
    assert run.what_waits_need("a:1")["retries"] == 2
    run.finish("a:1", Outcome())
    assert run.state.retries == {}


def test_an_inbox_has_a_weight():
    def noise(size: int) -> Heard:
        return Heard(type="NOISE", at=LATER, data={"text": "x" * size})

    run = Run(execution(Graph(nodes=(trigger(),), edges=())))
    for number in range(INBOX_CAP):
        run.hear(noise(60_000 if number % 2 else 70_000))
        weights = [heaviness(event) for event in run.state.inbox]
        assert sum(weights) <= INBOX_WEIGHT
    assert max(weights) <= EVENT_WEIGHT
    assert [event.data is None for event in run.state.inbox[-4:]] == [True, False, True, False]
    for _ in range(2 * INBOX_CAP):
        run.hear(noise(10))
    assert len(run.state.inbox) == INBOX_CAP


def test_a_run_keeps_to_its_leads_zone_while_it_sleeps_and_reads_it_again_to_sleep_on():
    nap, next_ = (Node(id=name, type="LOGIC_DELAY", save_as=name) for name in ("nap", "next"))
    run = Run(execution(Graph(nodes=(trigger(), nap, next_), edges=edges(f"{trigger().id}>nap", "nap>next"))))
    lead: dict[str, JsonValue] = {"timezone": "America/New_York"}
    run.admit(Begun(workspace={"timezone": "Europe/Oslo"}, workflow={}, lead=lead))
    run.start()
    assert not run.must_load_lead(nap)
    run.state.sleeping["nap:1"] = Outcome(wake_at=LATER)
    run.finish("nap:1", Outcome(wake_at=LATER))
    assert run.state.lead is None
    assert (run.zone(), run.must_load_lead(next_)) == ("America/New_York", True)
    run.finish("next:1", Outcome(lead={"timezone": None}))
    assert run.zone() == "Europe/Oslo"


@pytest.mark.parametrize("where", ["scope", "trigger", "inputs", "heard"])
def test_a_step_is_measured_with_all_that_it_is_given(where: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workflow, "payload_converter", lambda: pydantic_data_converter.payload_converter)
    heavy = {"text": "x" * 50_000}
    given: object = (Heard(type="PAID", at=LATER, data=heavy),) if where == "heard" else heavy
    ids = dict.fromkeys(("workspace_id", "workflow_id", "execution_id"), NOBODY)
    step = StepInput.model_validate({**ids, "node": log("a"), where: given})
    assert bytes_of(step) > 50_000
    assert bytes_of(step.model_copy(update={where: () if where == "heard" else {}})) < 1_000


def test_a_defect_in_a_handler_ends_the_run_instead_of_repeating_its_task(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workflow, "logger", logging.getLogger())
    driver: Any = ExecutionWorkflow(execution(Graph(nodes=(trigger(),), edges=())))
    driver.skip_step(Command(by="ada", step="nobody:1"))
    assert (driver._failure.type, driver._is_settled()) == ("defect", True)
    told = driver._failure
    driver.hear()
    assert driver._failure is told
