"""A join that no run completes is told, and one that some run completes never is."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflows.documents import RULE, START, errors, found, node, told
from tests.workflows.drawn import scripted_graphs
from tests.workflows.naive import Script, interpret
from workflows import publish, validation
from workflows.graph import Graph
from workflows.reactflow import Draft, DraftEdge, DraftNode


def test_a_join_of_all_over_both_ways_of_a_condition_never_runs():
    drawn = (
        START,
        node("if", "LOGIC_CONDITION", condition=RULE),
        node("then"),
        node("else"),
        node("join", "LOGIC_MERGE", mode="all"),
        node("after", joinMode="all"),
    )
    lines = (
        "start>if",
        "if.condition_true>then",
        "if.condition_false>else",
        "then>join",
        "else>join",
        "join>after",
    )
    problems = found(*drawn, edges=lines)
    assert told(problems) == [("join_never_runs", "/nodes/4/data/config/mode", "join")]
    assert "`if` leaves by one way only" in problems[0].message


def test_a_join_of_all_with_a_branch_that_is_never_reached_never_runs():
    drawn = (START, node("a"), node("lost"), node("join", joinMode="all"))
    assert errors(*drawn, edges=("start>a", "a>join", "lost>join")) == [
        ("join_never_runs", "/nodes/3/data/config/joinMode", "join")
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ("if.condition_true>a", "if.condition_true>b", "a>join", "b>join"),
        ("if.condition_true>a", "if.condition_false>b", "a>any", "b>any", "any>join", "start>join"),
        ("if.condition_true>a", "if>b", "a>join", "b>join"),
        ("if.condition_true>a", "other.condition_false>b", "a>join", "b>join"),
        ("if.condition_true>a", "if.condition_false>any", "a>any", "any>b", "b>join", "a>join"),
    ],
)
def test_a_join_of_all_that_some_run_completes_is_no_problem(lines: tuple[str, ...]):
    drawn = (
        START,
        node("if", "LOGIC_CONDITION", condition=RULE),
        node("other", "LOGIC_CONDITION", condition=RULE),
        node("a"),
        node("b"),
        node("any", "LOGIC_MERGE"),
        node("join", "LOGIC_MERGE", mode="all"),
    )
    assert errors(*drawn, edges=("start>if", "start>other", *lines)) == []


def test_success_and_failure_of_one_action_never_meet_in_a_join_of_all():
    drawn = (
        START,
        node("mail", "ACTION_SEND_EMAIL", emailSubject="x", emailText="y", onError="branch"),
        node("join", "LOGIC_MERGE", mode="all"),
    )
    lines = ("start>mail", "mail>join", "mail.error>join")
    assert errors(*drawn, edges=lines) == [("join_never_runs", "/nodes/2/data/config/mode", "join")]


@settings(max_examples=150, deadline=None)
@given(scripted_graphs(size=25), st.integers(0, 2**30))
def test_a_join_that_a_run_completed_is_never_called_dead(drawn: tuple[Graph, Script], seed: int):
    # Only what leaves by one way at a time is judged, so only such scripts are played.
    graph = drawn[0]
    forks = {n.id for n in graph.nodes if n.type == "UTILITY_LOG"}
    drawing = Draft(
        nodes=tuple(
            DraftNode(
                id=n.id,
                type="LOGIC_CONDITION" if n.id in forks else n.type,
                config={"mode": n.join} if n.type == "LOGIC_MERGE" else {"joinMode": n.join},
            )
            for n in graph.nodes
        ),
        edges=tuple(
            DraftEdge(id=e.id, source=e.source, target=e.target, source_handle=_two_ways(e.source_handle))
            for e in graph.edges
            if e.source in forks or e.source_handle in (None, "default")
        ),
    )
    told_dead = {
        p.node_id for p in validation.problems(drawing, [], publishing=True) if p.code == "join_never_runs"
    }
    for ran in _runs(drawing, seed):
        assert not told_dead & ran


def _two_ways(handle: str | None) -> str | None:
    return handle and ("condition_true" if handle in ("default", "a", "error") else "condition_false")


def _runs(drawing: Draft, seed: int) -> list[frozenset[str]]:
    dice = Random(seed)
    graph = publish.compile(drawing)
    runs = []
    for _ in range(8):
        handles = {
            n.id: (dice.choice(("condition_true", "condition_false")),)
            if n.type == "LOGIC_CONDITION"
            else ("default",)
            for n in graph.nodes
        }
        runs.append(interpret(graph, "start", Script(handles)).ran)
    return runs
