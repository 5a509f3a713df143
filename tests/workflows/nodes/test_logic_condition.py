"""LOGIC_CONDITION decides by its own rule, else by those on its edges."""

from typing import Any

import pytest

from workflows.messages import EdgeRule
from workflows.nodes.logic_condition import Condition
from workflows.nodetype import Refused

RICH = {"field": "budget", "operator": ">=", "value": 5000}
POOR = {"field": "budget", "operator": "<", "value": 5000}


def on_edge(handle: str | None, rule: dict[str, Any], edge_id: str = "e1") -> EdgeRule:
    return EdgeRule(edge_id=edge_id, handle=handle, rule=rule)


@pytest.mark.parametrize(
    ("budget", "handle"),
    [("$500", "condition_false"), ("$5000", "condition_true"), ("$10000+", "condition_true")],
)
def test_its_own_rule_chooses_the_way(decide, budget, handle):
    outcome = decide(Condition, {"condition": RICH}, scope={"trigger": {"budget": budget}})
    assert outcome.handles == (handle,)


def test_the_output_tells_how_the_rule_came_out(decide):
    outcome = decide(Condition, {"condition": RICH}, scope={"trigger": {"budget": "$500"}})
    assert outcome.output["result"] is False
    assert outcome.output["evaluation"]["left"] == "$500"
    assert outcome.output["evaluation"]["operator"] == ">="
    assert outcome.output["evaluation"]["right"] == 5000
    assert outcome.output["evaluation"]["holds"] is False


def test_a_group_tells_of_each_of_its_rules(decide):
    group = {"any": [RICH, {"field": "vip", "operator": "is_true"}]}
    outcome = decide(Condition, {"condition": group}, scope={"trigger": {"budget": 1, "vip": "yes"}})
    assert outcome.handles == ("condition_true",)
    assert [item["holds"] for item in outcome.output["evaluation"]["items"]] == [False, True]


@pytest.mark.parametrize(
    ("edges", "handle"),
    [
        ((on_edge("condition_true", RICH),), "condition_true"),
        ((on_edge("condition_true", POOR),), "condition_false"),
        ((on_edge("condition_true", POOR), on_edge("condition_true", RICH, "e2")), "condition_true"),
        ((on_edge("condition_true", POOR), on_edge("condition_false", RICH, "e2")), "condition_false"),
        ((on_edge(None, RICH),), "condition_true"),
    ],
)
def test_without_one_the_rules_on_its_edges_choose(decide, edges, handle):
    outcome = decide(Condition, {}, scope={"trigger": {"budget": 6000}}, edges=edges)
    assert outcome.handles == (handle,)


def test_its_own_rule_wins_over_those_on_edges(decide):
    edges = (on_edge("condition_true", POOR),)
    outcome = decide(Condition, {"condition": RICH}, scope={"trigger": {"budget": 6000}}, edges=edges)
    assert outcome.handles == ("condition_true",)


@pytest.mark.parametrize("edges", [(), (on_edge("condition_false", RICH),)])
def test_without_any_rule_it_refuses(decide, edges):
    with pytest.raises(Refused) as refused:
        decide(Condition, {}, edges=edges)
    assert refused.value.type == "no_condition"


def test_a_malformed_rule_is_named(decide):
    with pytest.raises(Refused) as refused:
        decide(Condition, {"condition": {"field": "x", "operator": "resembles", "value": 1}})
    assert refused.value.type == "bad_condition"


def test_a_missing_value_is_false_and_said_so(decide):
    outcome = decide(Condition, {"condition": RICH})
    assert outcome.handles == ("condition_false",)
    assert outcome.output["evaluation"]["note"] == "missing"
