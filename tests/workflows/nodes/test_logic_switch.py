"""LOGIC_SWITCH asks its cases in order and goes on by those that hold."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.workflows.documents import START, errors, node
from tests.workflows.test_publish import published
from workflows.graph import Graph
from workflows.messages import ExecutionInput, StepError
from workflows.nodes.logic_switch import Config, Switch
from workflows.nodetype import Refused
from workflows.run import Ready, Run


def case(id_: str, operator: str, value: Any, field: str = "budget") -> dict[str, Any]:
    return {
        "id": id_,
        "label": id_.title(),
        "condition": {"field": field, "operator": operator, "value": value},
    }


CASES = [case("large", ">=", 10_000), case("medium", ">=", 5_000), case("odd", "=", 6_001)]


@pytest.mark.parametrize(
    ("budget", "mode", "handles"),
    [
        ("$20,000", "first_match", ("case_large",)),
        (7000, "first_match", ("case_medium",)),
        (6001, "first_match", ("case_medium",)),
        (10, "first_match", ("default",)),
        ("$20,000", "all_matches", ("case_large", "case_medium")),
        (6001, "all_matches", ("case_medium", "case_odd")),
        (10, "all_matches", ("default",)),
        (None, "all_matches", ("default",)),
    ],
)
def test_the_first_or_every_case_that_holds_is_a_way_out(decide, budget, mode, handles):
    config = {"cases": CASES, "mode": mode}
    assert decide(Switch, config, scope={"trigger": {"budget": budget}}).handles == handles


def test_the_output_tells_how_each_case_that_was_asked_came_out(decide):
    outcome = decide(Switch, {"cases": CASES}, scope={"trigger": {"budget": 6001}})
    assert outcome.output["matched"] == ["medium"]
    assert [(one["id"], one["label"], one["result"]) for one in outcome.output["cases"]] == [
        ("large", "Large", False),
        ("medium", "Medium", True),
    ]
    assert outcome.output["cases"][0]["evaluation"]["left"] == 6001
    every = decide(Switch, {"cases": CASES, "mode": "all_matches"}, scope={"trigger": {"budget": 6001}})
    assert [one["result"] for one in every.output["cases"]] == [False, True, True]


def test_a_malformed_rule_names_its_case(decide):
    with pytest.raises(Refused) as refused:
        decide(Switch, {"cases": [CASES[0], case("b", "resembles", 1)]})
    assert refused.value.type == "bad_condition"
    assert "cases.1.condition" in refused.value.message


@pytest.mark.parametrize(
    "cases",
    [
        [],
        [CASES[0], CASES[0]],
        [{**CASES[0], "id": "a b"}],
        [{**CASES[0], "id": "a,b"}],
        [{**CASES[0], "id": ""}],
        [{**CASES[0], "id": "x" * 65}],
        [{"id": "a"}],
        [{**CASES[0], "surprise": 1}],
    ],
)
def test_a_case_needs_a_rule_and_an_id_of_its_own(cases):
    with pytest.raises(ValidationError):
        Config.model_validate({"cases": cases})


def test_each_case_is_a_handle_that_edges_may_leave_by():
    drawn = (START, node("sw", "LOGIC_SWITCH", cases=CASES), node("a"))
    lines = ("start>sw", "sw.case_large>a", "sw.default>a", "sw.case_none>a")
    assert errors(*drawn, edges=lines) == [("unknown_handle", "/edges/3/sourceHandle", "sw")]


@pytest.mark.parametrize(("mode", "expected"), [("first_match", ["join_never_runs"]), ("all_matches", [])])
def test_only_all_matches_may_feed_a_join_of_all(mode: str, expected: list[str]):
    drawn = (
        START,
        node("sw", "LOGIC_SWITCH", cases=CASES, mode=mode),
        node("a"),
        node("b"),
        node("m", "LOGIC_MERGE", mode="all"),
    )
    lines = ("start>sw", "sw.case_large>a", "sw.case_medium>b", "a>m", "b>m")
    assert [code for code, _, _ in errors(*drawn, edges=lines)] == expected


def test_the_rules_of_cases_are_validated_and_read():
    cases = [case("a", "~", 1), case("b", "exists", None, "bugdet"), case("c", "exists", None, "steps.no.x")]
    assert errors(START, node("sw", "LOGIC_SWITCH", cases=cases), edges=("start>sw",)) == [
        ("unknown_operator", "/nodes/1/data/config/cases/0/condition/operator", "sw"),
        ("unknown_field", "/nodes/1/data/config/cases/1/condition", "sw"),
        ("unknown_step", "/nodes/1/data/config/cases/2/condition", "sw"),
    ]
    graph = published(START, node("sw", "LOGIC_SWITCH", cases=CASES), edges=("start>sw",))
    assert graph.by_id["sw"].reads == ("lead.budget", "lead.fields.budget", "trigger.budget")


def run_of(graph: Graph) -> Run:
    nothing = "00000000-0000-0000-0000-000000000000"
    start = {"workspace_id": nothing, "workflow_id": nothing, "execution_id": nothing, "version": 1}
    given = {**start, "trigger_type": "MANUAL", "trigger_node_id": "start", "graph": graph}
    return Run(ExecutionInput.model_validate(given))


@pytest.mark.parametrize(
    ("type_", "config", "way"),
    [
        ("LOGIC_SWITCH", {"cases": CASES}, "default"),
        ("LOGIC_SPLIT", {"variants": [{"id": "one"}, {"id": "two"}]}, "variant_one"),
    ],
)
def test_a_disabled_or_failed_one_goes_on_by_its_first_way(type_: str, config: dict[str, Any], way: str):
    def drawn(**more: Any) -> Graph:
        fork = node("fork", type_, **config, **more)
        return published(START, fork, node("a"), edges=("start>fork", f"fork.{way}>a"))

    events = run_of(drawn(disabled=True)).start()
    assert [event.key for event in events if isinstance(event, Ready)] == ["a:1"]
    run = run_of(drawn(onError="continue"))
    run.start()
    outcome = run.recover("fork:1", StepError(type="x", message="x"))
    assert outcome is not None
    assert outcome.handles == (way,)
