"""Publishing keeps what a run needs, and equal content gives an equal graph however it was drawn."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflows.documents import document, draft, edge, node
from workflows import nodes, publish, reactflow
from workflows.graph import Graph
from workflows.nodetype import COMMON

START = node("start", "TRIGGER_FORM")
RULE = {"field": "budget", "operator": ">=", "value": 5000}


def published(*drawn: dict[str, Any], edges: tuple[Any, ...] = ()) -> Graph:
    return publish.compile(draft(*drawn, edges=edges))


def test_notes_disabled_edges_and_orphans_are_left_out():
    graph = published(
        START,
        node("a"),
        node("note", "UTILITY_NOTE", text="x"),
        edges=("start>a", edge("a>start", isEnabled=False), "a>gone", "a>note", "note>a"),
    )
    assert [n.id for n in graph.nodes] == ["a", "start"]
    assert [e.id for e in graph.edges] == ["start>a"]


def test_a_node_carries_what_its_config_says_of_its_run():
    named = node("a", saveAs="answer", onError="continue", disabled=True, joinMode="all")
    named["data"]["label"] = "Ask"
    graph = published(START, named, node("m", "LOGIC_MERGE", mode="first"), edges=("start>a", "a>m"))
    one = graph.by_id["a"]
    assert (one.save_as, one.on_error, one.disabled, one.join, one.label) == (
        "answer",
        "continue",
        True,
        "all",
        "Ask",
    )
    assert one.config["message"] == "hi"
    merge = graph.by_id["m"]
    assert (merge.save_as, merge.on_error, merge.disabled, merge.join, merge.label) == (
        "m",
        "fail",
        False,
        "first",
        "",
    )


def test_a_node_reads_what_its_templates_and_rules_name_and_its_edges_rules_too():
    asks = node(
        "fork", "LOGIC_CONDITION", condition={"any": [RULE, {"field": "vars.x", "operator": "exists"}]}
    )
    logs = node("a", message="{{ lead.name }} {{ steps.fork.result }}", data={"deep": ["{{ trigger.x.y }}"]})
    ruled = edge("a>b", condition={"field": "steps.a.message", "operator": "exists"})
    off = edge("a>c", condition={"field": "vars.never", "operator": "exists"}, isEnabled=False)
    graph = published(START, asks, logs, node("b"), node("c"), edges=("start>fork", "fork>a", ruled, off))
    assert graph.by_id["fork"].reads == ("lead.budget", "lead.fields.budget", "trigger.budget", "vars.x")
    assert graph.by_id["a"].reads == ("lead.name", "steps.a.message", "steps.fork.result", "trigger.x.y")
    assert graph.by_id["b"].reads == ()


def test_a_default_that_holds_a_template_is_read_too():
    graph = published(START, node("a", "ACTION_DELIVER_WEBHOOK", eventType="x"), edges=("start>a",))
    assert graph.by_id["a"].reads == ("execution", "lead", "trigger")


def test_an_edge_keeps_its_handle_and_rule():
    graph = published(START, node("a"), edges=(edge("start.default>a", condition=RULE),))
    assert graph.edges[0].model_dump() == {
        "id": "start.default>a",
        "source": "start",
        "target": "a",
        "source_handle": "default",
        "condition": RULE,
    }


@settings(max_examples=100, deadline=None)
@given(st.integers())
def test_how_it_was_drawn_does_not_count(seed: int):
    dice = Random(seed)
    given = document(
        START,
        node("a", message="{{ lead.name }}", data={"p": 1, "q": {"r": 2, "s": 3}}),
        node("b"),
        edges=("start>a", "a>b", edge("start>b", condition=RULE)),
    )
    turned = document(*(_turned(one, dice) for one in given["nodes"]))
    turned["edges"] = given["edges"][:]
    dice.shuffle(turned["nodes"])
    dice.shuffle(turned["edges"])
    drafts = [reactflow.read(one).draft for one in (given, turned)]
    one, other = (publish.compile(drawn) for drawn in drafts if drawn)
    assert one.content_hash == other.content_hash


def _turned(one: dict[str, Any], dice: Random) -> dict[str, Any]:
    config = dict(reversed(list(one["data"]["config"].items())))
    place = {"x": dice.randint(-9, 9), "y": 0}
    return {**one, "position": place, "selected": True, "data": {**one["data"], "config": config, "color": 1}}


@pytest.mark.parametrize("changed", [node("a", message="other"), node("a", saveAs="x"), node("b")])
def test_a_change_of_content_counts(changed: dict[str, Any]):
    before = published(START, node("a"), edges=("start>a",))
    assert published(START, changed, edges=("start>a",)).content_hash != before.content_hash


@pytest.mark.parametrize("bad", [node("a", "NOPE"), node("a", message=5)])
def test_what_validation_refuses_is_not_compiled(bad: dict[str, Any]):
    with pytest.raises(publish.NotPublishable, match="a"):
        published(START, bad)


@pytest.mark.parametrize("name", sorted(n for n, t in nodes.types().items() if not t.never_runs))
def test_the_example_of_every_type_survives_publishing_and_json(name: str):
    graph = published(node("one", name, **nodes.types()[name].example))
    again = Graph.model_validate_json(graph.model_dump_json())
    assert again == graph
    assert nodes.types()[name].Config(**again.nodes[0].config)


@pytest.mark.parametrize("name", sorted(n for n, t in nodes.types().items() if not t.never_runs))
def test_what_steps_record_as_input_is_known_of_every_type_but_for_the_keys_that_all_share(name: str):
    graph = published(node("one", name, **nodes.types()[name].example, maskOutput=True))
    inputs = publish.inputs(graph).get("one", {})
    own = {info.alias or key for key, info in nodes.types()[name].Config.model_fields.items()}
    assert set(inputs) == own - COMMON - nodes.types()[name].keeps_out
    assert json.loads(json.dumps(inputs)) == inputs
