"""Loops that are drawn wrongly are told at publish, by node, path and remedy."""

from typing import Any

import pytest

from tests.workflows.documents import draft, edge, errors, found, node, told
from workflows import publish

START = node("start", "TRIGGER_MANUAL")
LOOP = node("loop", "LOGIC_FOR_EACH", items=[1, 2])


def goto(target: str, node_id: str = "again", **config: Any) -> dict[str, Any]:
    return node(node_id, "LOGIC_GOTO", targetNodeId=target, **config)


def codes(*drawn: dict[str, Any], edges: tuple[Any, ...]) -> list[tuple[str, str]]:
    return [(code, pointer) for code, pointer, _ in errors(START, *drawn, edges=edges)]


BODY = ("start>loop", "loop.each>a", "a>loop", "loop.done>b")
CIRCLE = ("start>a", "a>again", "again.default>a", "again.exhausted>b")
A, B, C = (node(name) for name in "abc")


def test_loops_drawn_rightly_have_no_problem():
    assert found(START, LOOP, A, B, edges=BODY) == []
    assert found(START, A, goto("a"), B, edges=CIRCLE) == []
    inner = node("inner", "LOGIC_FOR_EACH", items="{{ loop.item }}", mode="parallel")
    lines = ("start>loop", "loop.each>inner", "inner.each>a", "a>again", "inner.done>b")
    assert (
        found(START, LOOP, inner, node("a", message="{{ loop.outer.index }}"), goto("a"), B, edges=lines)
        == []
    )


def test_the_published_graph_says_what_repeats():
    graph = publish.compile(draft(START, LOOP, A, B, goto("b", maxVisits=4), edges=(*BODY, "b>again")))
    loops = {each.id: each.loop.model_dump(exclude_defaults=True) for each in graph.nodes if each.loop}
    assert loops == {
        "loop": {"kind": "each", "cap": 1000},
        "again": {"kind": "jump", "cap": 4, "target": "b"},
    }


@pytest.mark.parametrize(
    ("target", "code"),
    [("x", "unknown_target"), ("start", "bad_target"), ("again", "bad_target"), ("b", "target_not_upstream")],
)
def test_a_jump_goes_to_a_node_that_leads_to_it(target: str, code: str):
    lines = ("start>a", "a>again", "again.exhausted>b")
    assert codes(A, goto(target), B, edges=lines) == [(code, "/nodes/2/data/config/targetNodeId")]


def test_a_jump_neither_leaves_nor_enters_the_items_of_a_loop():
    out = ("start>a", "a>loop", "loop.each>again")
    assert codes(A, LOOP, goto("a"), edges=out) == [("jump_over_border", "/nodes/3/data/config/targetNodeId")]
    into = ("start>loop", "loop.each>a", "loop.done>again")
    assert codes(A, LOOP, goto("a"), edges=into) == [
        ("target_not_upstream", "/nodes/3/data/config/targetNodeId")
    ]


def test_edges_of_a_loop_say_what_they_are_for():
    assert codes(LOOP, A, edges=("start>loop", "loop>a")) == [("handle_needed", "/edges/1")]
    assert codes(A, goto("a"), B, edges=("start>a", "a>again", "again>b")) == [("handle_needed", "/edges/2")]
    wrong = ("start>a", "a>b", "b>again", "again.default>b")
    assert codes(A, B, goto("a"), edges=wrong) == [("wrong_way_back", "/edges/3/target")]


@pytest.mark.parametrize("line", ["loop.each>a", "a>loop"])
def test_no_rule_stands_on_an_edge_into_or_back_to_a_loop(line: str):
    rule = {"field": "lead.email", "operator": "exists"}
    lines = [edge(one, condition=rule) if one == line else one for one in BODY]
    where = f"/edges/{BODY.index(line)}/data/condition"
    assert codes(LOOP, A, B, edges=tuple(lines)) == [("rule_on_loop_edge", where)]


def test_a_loop_has_one_way_in():
    assert codes(LOOP, A, B, edges=(*BODY, "b>a")) == [("loop_entered_sideways", "/edges/4/target")]
    lines = ("start>a", "a>b", "b>again", "start>b")
    assert codes(A, B, goto("a"), edges=lines) == [("loop_entered_sideways", "/edges/3/target")]


def test_loops_do_not_cross():
    lines = ("start>a", "a>b", "a>c", "b>again", "c>more")
    both = (A, B, C, goto("a"), goto("a", "more"))
    assert codes(*both, edges=lines) == [("loops_cross", "/nodes/5")]


def test_loops_around_each_other_are_bounded():
    deep = [node(f"l{number}", "LOGIC_FOR_EACH", items=[1], maxItems=10_000) for number in range(3)]
    lines = ("start>l0", "l0.each>l1", "l1.each>l2", "l2.each>a")
    assert codes(*deep, A, edges=lines) == [("loops_too_large", "/nodes/3/data/config/maxItems")]


def test_a_circle_without_a_loop_stays_refused():
    assert codes(A, B, edges=("start>a", "a>b", "b>a"))[0] == ("cycle", "/nodes/1")


def test_only_what_a_loop_runs_names_its_item_and_the_step_of_an_item_ends_with_it():
    outside = node("b", message="{{ loop.item }} {{ steps.a }}")
    told_of = errors(START, LOOP, A, outside, edges=BODY)
    assert {(code, node_id) for code, _, node_id in told_of} == {
        ("not_in_loop", "b"),
        ("step_not_upstream", "b"),
    }
    earlier = node("a", message="{{ steps.b | default: 'first' }}")
    assert codes(earlier, B, goto("a"), edges=("start>a", "a>b", "b>again")) == []


def test_a_loop_without_anything_to_do_is_warned_of():
    [problem] = found(START, LOOP, edges=("start>loop",))
    assert (told([problem]), problem.severity) == ([("empty_loop", "/nodes/1", "loop")], "warning")
