"""A rerun keeps what ran, runs again what did not end and what it is told to, and nothing twice."""

from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.workflows.drawn import edges, execution, log, merge, scripted_graphs, trigger
from tests.workflows.naive import Script, interpret
from workflows.graph import Edge, Graph, Loop, Node
from workflows.messages import Ending, Heard, Outcome, RunState, StepError
from workflows.rewind import Unkept, following, rewind
from workflows.run import Run

JUMPS = Loop(kind="jump", cap=2, target="b")
MOMENT = datetime(2026, 11, 26, tzinfo=UTC)


class Player:
    """Plays a run by a script, from the start or from a state, and notes who ran."""

    def __init__(self, graph: Graph, script: Script, dice: Random, state: RunState | None = None) -> None:
        self.graph, self.script, self.dice = graph, script, dice
        # What a rerun starts with has crossed Temporal as JSON.
        crossed = RunState.model_validate_json(state.model_dump_json()) if state else None
        self.run = Run(execution(graph, state=crossed))
        self.played: list[str] = []
        if state is None:
            self.run.start()

    def play(self, steps: int = 10_000) -> "Player":
        for _ in range(steps):
            ready = self.run.state.ready
            if not ready:
                break
            key = self.dice.choice(ready)
            node = self.run.node_of(key)
            conditions = {e.id: self.script.holds[e.id] for e in self.graph.outgoing[node.id] if e.condition}
            outcome = Outcome(
                output=f"{node.id} {self.dice.random()}",
                handles=self.script.handles[node.id],
                conditions=conditions,
            )
            self.run.finish(key, outcome)
            self.played.append(node.id)
        return self

    def told(self) -> tuple[set[str], set[str]]:
        """Say who ran, and who was decided not to."""
        state = self.run.state
        return set(state.outputs), set(state.walk.visits) - set(state.outputs)


def with_own_rules(graph: Graph) -> Graph:
    """Give each ruled edge its own rule: equal ones hold alike, while the script is random."""
    rule = {"operator": "exists"}
    lines = [
        e.model_copy(update={"condition": {**rule, "field": e.id}}) if e.condition else e for e in graph.edges
    ]
    return Graph(nodes=graph.nodes, edges=tuple(lines))


def relabelled(graph: Graph) -> Graph:
    """Draw the same graph as another version, its edges drawn anew."""
    nodes = [node.model_copy(update={"label": "new"}) for node in graph.nodes]
    lines = [edge.model_copy(update={"id": f"new {edge.id}"}) for edge in graph.edges]
    return Graph(nodes=tuple(nodes), edges=tuple(lines))


def expected(graph: Graph, script: Script) -> tuple[set[str], set[str]]:
    told = interpret(graph, "start", script)
    return set(told.ran), set(told.skipped)


def rename(script: Script) -> Script:
    return Script(script.handles, {f"new {edge_id}": holds for edge_id, holds in script.holds.items()})


@settings(max_examples=150, deadline=None)
@given(scripted_graphs(size=40), st.integers(), st.integers(0, 40), st.booleans())
def test_a_rerun_from_the_failure_comes_to_what_the_whole_run_would_have(
    drawn: tuple[Graph, Script], seed: int, stop: int, on_latest: bool
):
    graph, script = with_own_rules(drawn[0]), drawn[1]
    broken = Player(graph, script, Random(seed)).play(stop)
    before = dict(broken.run.state.outputs)
    newer, ways = (relabelled(graph), rename(script)) if on_latest else (graph, script)
    again = Player(newer, ways, Random(seed + 1), rewind(broken.run, newer, trigger_id="start")).play()
    assert again.told() == expected(graph, script)
    assert not set(again.played) & set(broken.played)
    assert {name: again.run.state.outputs[name] for name in before} == before


@settings(max_examples=150, deadline=None)
@given(scripted_graphs(size=40), st.integers(), st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_a_rerun_from_a_node_runs_it_and_what_follows_and_nothing_else(
    drawn: tuple[Graph, Script], seed: int, stop: int, place: int, on_latest: bool
):
    graph, script = with_own_rules(drawn[0]), drawn[1]
    first = Player(graph, script, Random(seed)).play(stop)
    before = dict(first.run.state.outputs)
    others = [name for name in before if name != "start"]
    assume(others)
    chosen = others[place % len(others)]
    newer, ways = (relabelled(graph), rename(script)) if on_latest else (graph, script)
    state = rewind(first.run, newer, trigger_id="start", node_id=chosen)
    again = Player(newer, ways, Random(seed + 1), state).play()
    after = following(graph, chosen)
    assert again.told() == expected(graph, script)
    assert chosen in again.played
    assert not set(again.played) & (set(before) - after)
    kept = {name: output for name, output in before.items() if name not in after}
    assert {name: again.run.state.outputs[name] for name in kept} == kept


LINE = Graph(nodes=(trigger(), log("a"), log("b"), log("c")), edges=edges("start>a", "a>b", "b>c"))


def broken_at(graph: Graph, *done: str) -> Run:
    """Run until these have ended, and no further."""
    run = Run(execution(graph))
    run.start()
    for name in done:
        run.finish(f"{name}:1", Outcome(output=name))
    return run


def state_of(found: RunState | None) -> RunState:
    assert found is not None
    return found


def test_what_only_the_old_runs_moment_meant_is_gone():
    run = broken_at(LINE, "a")
    run.state.sleeping["b:1"] = Outcome(wake_at=MOMENT)
    run.state.entered["b:1"] = run.state.began_at = MOMENT
    run.state.held["b:1"] = StepError(type="x", message="x")
    run.state.paused, run.state.lead = True, {"name": "Ada"}
    state = state_of(rewind(run, LINE, trigger_id="start"))
    assert state == RunState(walk=run.state.walk, outputs=run.state.outputs, ready=["b:1"], began_at=MOMENT)
    assert run.state.paused


def test_a_run_that_never_began_and_one_from_its_trigger_keep_nothing():
    assert rewind(Run(execution(LINE)), LINE, trigger_id="start") is None
    assert rewind(broken_at(LINE, "a"), LINE, trigger_id="start", node_id="start") is None


def test_decisions_are_asked_for_again_and_other_events_still_count():
    run = broken_at(LINE, "a", "b")
    kinds = ["PAID", "approval b:1", "approval a:1", "approval odd"]
    run.state.inbox = [Heard(type=kind, at=MOMENT) for kind in kinds]
    assert [e.type for e in state_of(rewind(run, LINE, trigger_id="start")).inbox] == kinds
    kept = state_of(rewind(run, LINE, trigger_id="start", node_id="b")).inbox
    assert [event.type for event in kept] == ["PAID", "approval a:1", "approval odd"]


def test_variables_are_as_they_were_before_the_node():
    def sets(name: str) -> Node:
        return log(name, type="UTILITY_SET_VARIABLES", config={"assignments": {"x": 1}})

    graph = Graph(nodes=(trigger(), sets("a"), sets("b"), log("c")), edges=edges("start>a", "a>b", "b>c"))
    run = Run(execution(graph))
    run.start()
    for name, value in (("a", {"x": 1, "y": 1}), ("b", {"x": 2, "z": 2})):
        run.finish(f"{name}:1", Outcome(output=value, vars=value))
    assert state_of(rewind(run, graph, trigger_id="start")).vars == {"x": 2, "y": 1, "z": 2}
    assert state_of(rewind(run, graph, trigger_id="start", node_id="b")).vars == {"x": 1, "y": 1}
    assert state_of(rewind(run, graph, trigger_id="start", node_id="a")).vars == {}


def test_the_result_of_an_end_is_kept_with_the_end():
    def end(name: str) -> Node:
        return log(name, type="UTILITY_END", config={})

    graph = Graph(
        nodes=(trigger(), log("a"), end("won"), log("b"), end("lost")),
        edges=edges("start>a", "a>won", "start>b", "b>lost"),
    )
    run = broken_at(graph, "a", "b")
    for name in ("won", "lost"):
        ending = Ending(outcome=name)
        run.finish(f"{name}:1", Outcome(output=ending.model_dump(), ending=ending, handles=()))
    assert state_of(rewind(run, graph, trigger_id="start", node_id="b")).ending == Ending(outcome="won")
    assert state_of(rewind(run, graph, trigger_id="start", node_id="a")).ending == Ending(outcome="lost")


NEWER: dict[str, tuple[Graph, str | None, list[str]]] = {
    "the failed node is mended": (
        Graph(nodes=(trigger(), log("a"), log("b", label="new"), log("c")), edges=LINE.edges), None, ["b:1"]
    ),
    "a node stands before the failed one": (
        Graph(nodes=(*LINE.nodes, log("x")), edges=edges("start>a", "a>x", "x>b", "b>c")), None, ["x:1"]
    ),
    "the failed node is disabled": (
        Graph(nodes=(trigger(), log("a"), log("b", disabled=True), log("c")), edges=LINE.edges), None, ["c:1"]
    ),
    "the failed node is gone": (Graph(nodes=LINE.nodes[:2], edges=LINE.edges[:1]), None, []),
    "a way that only it could have": (
        Graph(nodes=(*LINE.nodes, log("x")), edges=edges("start>a", "a.default>x", "a.error>c")), None,
        ["x:1"],
    ),
    "it is merged": (
        Graph(nodes=(*LINE.nodes, merge("x")), edges=edges("start>a", "start>x", "a>x", "x>b")), None, ["x:1"]
    ),
    "from a node of another type": (
        Graph(nodes=(trigger(), merge("a"), log("b"), log("c")), edges=LINE.edges), "a", ["a:1"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NEWER)
def test_on_another_version_what_fits_is_kept(name: str):
    graph, node_id, ready = NEWER[name]
    state = state_of(rewind(broken_at(LINE, "a"), graph, trigger_id="start", node_id=node_id))
    assert state.ready == ready
    assert set(state.outputs) == ({"start"} if node_id else {"start", "a"})


RULED = Edge(id="r", source="a", target="x", condition={"field": "x", "operator": "exists"})
REFUSED: dict[str, tuple[Graph, str | None, str]] = {
    "a kept node is gone": (
        Graph(nodes=(trigger(), log("b")), edges=edges("start>b")), None, "version_differs"
    ),
    "a kept node is another": (
        Graph(nodes=(trigger(), merge("a"), log("b")), edges=edges("start>a", "a>b")), None, "version_differs"
    ),
    "nothing leads to a kept node": (
        Graph(nodes=LINE.nodes, edges=edges("start>b", "b>a")), None, "version_differs"
    ),
    "a rule was never weighed": (
        Graph(nodes=(*LINE.nodes, log("x")), edges=(*LINE.edges, RULED)), None, "version_differs"
    ),
    "there is no such node": (LINE, "nobody", "unknown_node"),
    "the run never got there": (LINE, "c", "node_not_reached"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_with_a_remedy(name: str):
    graph, node_id, code = REFUSED[name]
    with pytest.raises(Unkept) as refused:
        rewind(broken_at(LINE, "a"), graph, trigger_id="start", node_id=node_id)
    told: Any = refused.value
    assert told.code == code
    assert told.message
    assert told.remedy


def test_in_a_graph_with_loops_too_a_disabled_node_is_not_run_again():
    nodes = (trigger(), log("a", disabled=True), log("again", type="LOGIC_GOTO", loop=JUMPS), log("b"))
    graph = Graph(nodes=nodes, edges=edges("start>a", "a>b", "b>again"))
    run = broken_at(graph)
    with pytest.raises(Unkept) as refused:
        rewind(run, graph, trigger_id="start", node_id="a")
    assert refused.value.code == "node_not_reached"
