"""The walk decides each node once, by the join rule, in whatever order steps end."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflows.drawn import edges, log, scripted_graphs, trigger
from tests.workflows.naive import Script, Told, interpret
from workflows.frames import Decided, Decision, WalkState
from workflows.graph import Edge, Graph, Join, Node
from workflows.walk import Walk


class Counting(Walk):
    """Counts how often a join is asked."""

    asked = 0

    def _join(self, *given: Any) -> Decision | None:
        self.asked += 1
        return super()._join(*given)


def decisions_of(decided: list[Decided]) -> list[Decision]:
    """Narrow down: without loops there is nothing else."""
    return [each for each in decided if isinstance(each, Decision)]


def play(walk: Walk, script: Script, dice: Random | None = None) -> list[Decision]:
    """Walk to the end, each step leaving as the script says, in the order that the dice choose."""
    told = decisions_of(walk.start("start"))
    ready = [decision for decision in told if decision.ready]
    while ready:
        step = ready.pop(dice.randrange(len(ready)) if dice else 0)
        follows = decisions_of(walk.finish(step.node_id, script.handles[step.node_id], script.holds))
        told += follows
        ready += [decision for decision in follows if decision.ready]
    return told


def told_of(decisions: list[Decision]) -> Told:
    return Told(
        ran=frozenset(d.node_id for d in decisions if d.ready),
        skipped={d.node_id: d.reason or "" for d in decisions if not d.ready},
    )


def enabled(graph: Graph) -> Graph:
    """Leave disabling to the run: the walk itself knows nothing of it."""
    return Graph(
        nodes=tuple(n.model_copy(update={"disabled": False}) for n in graph.nodes), edges=graph.edges
    )


def walk_through(graph: Graph, **handles: str) -> Told:
    script = Script({node.id: (handles.get(node.id, "default"),) for node in graph.nodes})
    return told_of(play(Walk(graph), script))


@settings(max_examples=500, deadline=None)
@given(scripted_graphs(), st.integers())
def test_the_walk_says_what_the_naive_interpreter_says(drawn: tuple[Graph, Script], seed: int):
    graph, script = enabled(drawn[0]), drawn[1]
    decisions = play(Walk(graph), script, Random(seed))
    assert told_of(decisions) == interpret(graph, "start", script)
    assert len(decisions) == len(graph.nodes)


@settings(max_examples=200, deadline=None)
@given(scripted_graphs(), st.integers(), st.integers())
def test_the_order_in_which_steps_end_changes_nothing(drawn: tuple[Graph, Script], one: int, other: int):
    graph, script = enabled(drawn[0]), drawn[1]
    walks = [Walk(graph), Walk(graph)]
    told = [told_of(play(walk, script, Random(seed))) for walk, seed in zip(walks, (one, other), strict=True)]
    assert told[0] == told[1]
    assert walks[0].state == walks[1].state


@settings(max_examples=200, deadline=None)
@given(scripted_graphs(size=30), st.integers(), st.integers(0, 30))
def test_a_walk_goes_on_from_its_state_as_if_it_had_never_stopped(
    drawn: tuple[Graph, Script], seed: int, stop: int
):
    graph, script = enabled(drawn[0]), drawn[1]
    straight = play(Walk(graph), script, Random(seed))
    walk, dice, told = Walk(graph), Random(seed), list[Decision]()
    told = decisions_of(walk.start("start"))
    ready = [decision for decision in told if decision.ready]
    for number in range(len(graph.nodes)):
        if number == stop:
            walk = Walk(graph, WalkState.model_validate_json(walk.state.model_dump_json()))
        if not ready:
            break
        step = ready.pop(dice.randrange(len(ready)))
        follows = decisions_of(walk.finish(step.node_id, script.handles[step.node_id], script.holds))
        told += follows
        ready += [decision for decision in follows if decision.ready]
    assert told == straight


DIAMOND = edges("start>left", "start>right", "left>end", "right>end")


@pytest.mark.parametrize("join", ["any_live", "all", "first"])
def test_a_diamond_runs_its_last_node_once(join: Join):
    graph = Graph(nodes=(trigger(), log("left"), log("right"), log("end", join=join)), edges=DIAMOND)
    decisions = play(Walk(graph), Script({node.id: ("default",) for node in graph.nodes}))
    assert [d.node_id for d in decisions] == (["start", "left", "right", "end"])


def test_an_if_else_that_meets_again_never_hangs():
    graph = Graph(
        nodes=(trigger(), log("if"), log("then"), log("else"), log("end")),
        edges=edges("start>if", "if.condition_true>then", "if.condition_false>else", "then>end", "else>end"),
    )
    told = walk_through(graph, **{"if": "condition_false"})
    assert told == Told(frozenset({"start", "if", "else", "end"}), {"then": "branch_not_taken"})


def test_a_join_of_all_is_skipped_when_one_branch_is_not_taken_and_so_is_what_follows():
    graph = Graph(
        nodes=(trigger(), log("if"), log("then"), log("join", join="all"), log("after")),
        edges=edges("start>if", "if.yes>then", "then>join", "start>join", "join>after"),
    )
    told = walk_through(graph, **{"if": "no"})
    assert told.skipped == {
        "then": "branch_not_taken",
        "join": "join_incomplete",
        "after": "branch_not_taken",
    }


def test_a_join_of_the_first_runs_at_the_first_arrival_and_never_again():
    graph = Graph(nodes=(trigger(), log("left"), log("right"), log("end", join="first")), edges=DIAMOND)
    walk = Walk(graph)
    walk.start("start")
    walk.finish("start", ("default",))
    assert walk.finish("left", ("default",)) == [Decision("end:1", "end", ready=True)]
    assert walk.finish("right", ("default",)) == []
    assert [edge.source for edge in walk.taken_into("end")] == ["left", "right"]


def test_what_no_edge_leads_to_is_skipped_at_once_with_all_that_follows():
    graph = Graph(nodes=(trigger(), log("a"), log("b")), edges=edges("a>b"))
    assert told_of(decisions_of(Walk(graph).start("start"))).skipped == {
        "a": "unreachable",
        "b": "branch_not_taken",
    }


def test_a_node_without_handles_ends_its_branch():
    graph = Graph(nodes=(trigger(), log("end"), log("after")), edges=edges("start>end", "end>after"))
    walk = Walk(graph)
    walk.start("start")
    walk.finish("start", ("default",))
    assert told_of(decisions_of(walk.finish("end", ()))).skipped == {"after": "branch_not_taken"}


def test_an_edge_without_a_handle_leaves_by_any_but_error():
    graph = Graph(nodes=(trigger(), log("a"), log("e")), edges=edges("start>a", "start.error>e"))
    assert walk_through(graph, start="surprise").ran == {"start", "a"}
    assert walk_through(graph, start="error").ran == {"start", "e"}


@pytest.mark.parametrize(
    ("weighed", "ran"), [({"ruled": True}, True), ({"ruled": False}, False), ({}, False)]
)
def test_an_edge_with_a_rule_is_taken_only_if_it_holds(weighed: dict[str, bool], ran: bool):
    edge = Edge(id="ruled", source="start", target="a", condition={"field": "x", "operator": "exists"})
    walk = Walk(Graph(nodes=(trigger(), log("a")), edges=(edge,)))
    walk.start("start")
    [decision] = decisions_of(walk.finish("start", ("default",), weighed))
    assert decision.ready is ran


def test_two_edges_between_the_same_nodes_join_like_any_others():
    graph = Graph(nodes=(trigger(), log("a")), edges=edges("start.yes>a", "start.no>a"))
    assert walk_through(graph, start="no").ran == {"start", "a"}


def test_a_step_that_ends_twice_changes_nothing():
    graph = Graph(nodes=(trigger(), log("a")), edges=edges("start.yes>a"))
    walk = Walk(graph)
    walk.start("start")
    assert len(walk.finish("start", ("yes",))) == 1
    assert walk.finish("start", ("no",)) == []


def test_a_path_of_ten_thousand_nodes_is_skipped_without_recursion():
    nodes = [trigger(), *(log(f"n{number}") for number in range(9_999))]
    path = [Edge(id=str(n), source=nodes[n].id, target=nodes[n + 1].id) for n in range(9_999)]
    walk = Counting(Graph(nodes=tuple(nodes), edges=tuple(path)))
    walk.start("start")
    skipped = walk.finish("start", ())
    assert len(skipped) == 9_999
    assert walk.asked == 9_999


def _ladder(rungs: int) -> Graph:
    """Draw diamonds in a row: 2 ** rungs ways lead through."""
    nodes: list[Node] = [trigger()]
    lines: list[str] = []
    for number in range(rungs):
        top, bottom = nodes[-1].id, f"j{number}"
        nodes += [log(f"l{number}"), log(f"r{number}"), log(bottom, join="all")]
        lines += [f"{top}>{side}{number}" for side in "lr"] + [f"{side}{number}>{bottom}" for side in "lr"]
    return Graph(nodes=tuple(nodes), edges=edges(*lines))


def test_a_ladder_of_two_to_the_twentieth_ways_is_walked_edge_by_edge():
    graph = _ladder(20)
    walk = Counting(graph)
    decisions = play(walk, Script({node.id: ("default",) for node in graph.nodes}))
    assert len(decisions) == len(graph.nodes)
    assert walk.asked == len(graph.edges)


def test_a_join_of_ten_thousand_branches_is_asked_once_for_each():
    sides = [f"n{number}" for number in range(10_000)]
    graph = Graph(
        nodes=(trigger(), *map(log, sides), log("end", join="all")),
        edges=edges(*(f"start>{side}" for side in sides), *(f"{side}>end" for side in sides)),
    )
    walk = Counting(graph)
    decisions = play(walk, Script({node.id: ("default",) for node in graph.nodes}))
    assert decisions[-1] == Decision("end:1", "end", ready=True)
    assert walk.asked == 20_000


def test_two_graphs_with_the_same_node_ids_never_mix():
    nodes = (trigger(), log("a"), log("b"))
    one = Walk(Graph(nodes=nodes, edges=edges("start>a", "a>b")))
    two = Walk(Graph(nodes=nodes, edges=edges("start>b", "b>a")))
    for walk in (one, two):
        walk.start("start")
    assert [d.node_id for d in one.finish("start", ("default",))] == ["a"]
    assert [d.node_id for d in two.finish("start", ("default",))] == ["b"]
    assert [d.node_id for d in one.finish("a", ("default",))] == ["b"]
    assert [d.node_id for d in two.finish("b", ("default",))] == ["a"]
