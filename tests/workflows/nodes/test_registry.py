"""Every node type: its example is valid, its file names are a pair, its prose is there."""

import re
from importlib.util import find_spec

import pytest

from workflows import nodes
from workflows.nodetype import NodeType, marked_values

CATALOGUE = {
    "TRIGGER_FORM",
    "TRIGGER_MANUAL",
    "ACTION_UPDATE_LEAD",
    "ACTION_SET_LEAD_STATUS",
    "ACTION_ADD_LEAD_EVENT",
    "ACTION_SEND_EMAIL",
    "ACTION_DELIVER_WEBHOOK",
    "LOGIC_CONDITION",
    "LOGIC_DELAY",
    "LOGIC_MERGE",
    "UTILITY_SET_VARIABLES",
    "UTILITY_LOG",
    "UTILITY_END",
    "UTILITY_FAIL",
    "UTILITY_NOTE",
}
every_type = pytest.mark.parametrize("node_type", nodes.types().values(), ids=lambda t: t.name)


def test_the_first_release_is_there():
    assert set(nodes.types()) >= CATALOGUE


@every_type
def test_the_example_is_a_valid_config(node_type: type[NodeType]):
    node_type.Config.model_validate(node_type.example)


@every_type
def test_the_file_is_named_as_the_type(node_type: type[NodeType]):
    assert nodes.module_of(node_type) == node_type.name.lower()


@every_type
def test_it_decides_or_passes_or_has_an_effect(node_type: type[NodeType]):
    has_effect = find_spec(f"activities.nodes.{node_type.name.lower()}") is not None
    # Who waits for people decides, and asks them beside.
    found = [node_type.decides, node_type.passes, node_type.never_runs, has_effect != node_type.asks]
    assert found.count(True) == 1


@every_type
def test_it_says_what_it_does(node_type: type[NodeType]):
    assert node_type.title[0].isupper()
    assert node_type.summary.endswith(".")


@every_type
def test_only_actions_and_loops_over_items_have_an_error_handle(node_type: type[NodeType]):
    config = node_type.Config.model_validate(node_type.example)
    fails_inside = node_type.kind() == "action" or node_type.name == "LOGIC_FOR_EACH"
    assert ("error" in node_type.ways_out(config)) == fails_inside


def test_defaults_that_are_templates_count_as_written():
    webhook = nodes.types()["ACTION_DELIVER_WEBHOOK"]
    found = {path: value for path, _, value in marked_values(webhook.Config, {"eventType": "lead.created"})}
    assert found["payload",]["lead"] == "{{ lead }}"


@every_type
def test_its_ways_out_are_those_it_is_documented_with(node_type: type[NodeType]):
    config = node_type.Config.model_validate(node_type.example)
    patterns = [re.compile(re.escape(each).replace("<id>", ".+")) for each in node_type.named_handles]
    named = set(node_type.ways_out(config)) - {*node_type.handles, "error"}
    assert all(any(pattern.fullmatch(way) for pattern in patterns) for way in named)
    assert bool(named) == bool(patterns)
