"""Everything that can be wrong with a workflow is told before it runs: code, node, place and remedy."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflows.documents import BUDGET, RULE, START, draft, edge, errors, found, node, told, warnings
from workflows import nodes, publish, validation
from workflows.questions import Field
from workflows.reactflow import Draft, DraftEdge, DraftNode


def test_the_erds_own_example_has_no_problem():
    drawn = (
        START,
        node("condition_check_budget", "LOGIC_CONDITION"),
        node(
            "send_high_value_email", "ACTION_SEND_EMAIL", emailSubject="Thanks!", emailBody="Hi {{lead.name}}"
        ),
    )
    yes = edge("condition_check_budget.condition_true>send_high_value_email", condition=RULE)
    assert found(*drawn, edges=("start>condition_check_budget", yes)) == []


@pytest.mark.parametrize("name", sorted(nodes.types()))
def test_the_example_of_every_type_has_no_problem(name: str):
    node_type = nodes.types()[name]
    keys = ("product", "company", "guests")
    fields = [*BUDGET, *(Field(field_key=key, field_type="TEXT") for key in keys)]
    one = node("one", name, **node_type.example)
    if node_type.kind() == "trigger":
        assert found(one, fields=fields) == []
        return
    # The logs are what loops repeat.
    lines = ("start>log", "log>one", *("one.each>item",) * ("each" in node_type.handles))
    drawn = (START, node("log"), one, *(node("item"),) * ("each" in node_type.handles))
    assert found(*drawn, edges=lines if not node_type.never_runs else lines[:1], fields=fields) == []


def test_a_draft_is_saved_with_warnings_and_without_unknown_types():
    half = draft(node("a", "ACTION_SEND_EMAIL"), node("b", "ACTION_SEND_MAIL"))
    problems = validation.problems(half, [], publishing=False)
    assert told(problems) == [
        ("unknown_node_type", "/nodes/1/type", "b"),
        ("config_missing", "/nodes/0/data/config/emailSubject", "a"),
        ("no_trigger", "/nodes", None),
    ]
    assert [problem.severity for problem in problems] == ["error", "warning", "warning"]
    assert "ACTION_SEND_EMAIL" in problems[0].remedy


def test_an_empty_draft_is_saved_and_not_published():
    assert [p.severity for p in validation.problems(Draft(), [], publishing=False)] == ["warning"]
    assert told(validation.problems(Draft(), [], publishing=True)) == [("no_trigger", "/nodes", None)]


# Configs


@pytest.mark.parametrize(
    ("config", "code", "field", "says"),
    [
        ({}, "config_missing", "message", "missing"),
        ({"message": 5}, "config_invalid", "message", "must be a text, not 5"),
        ({"message": "x", "level": "LOUD"}, "config_invalid", "level", "'INFO'"),
        ({"message": "x", "mesage": "y"}, "config_unknown_key", "mesage", "no setting"),
        ({"message": "x", "disabled": "maybe"}, "config_invalid", "disabled", "true or false"),
        (
            {"message": "x", "retry": {"maxAttempts": 0}},
            "config_invalid",
            "retry.maxAttempts",
            "greater than",
        ),
        ({"message": "x", "retry": {"max": 1}}, "config_unknown_key", "retry.max", "no setting"),
        ({"message": "x", "retry": 1}, "config_invalid", "retry", "an object"),
        ({"message": "x", "saveAs": "my step"}, "config_invalid", "saveAs", "pattern"),
        ({"message": "x", "timeoutSeconds": -1}, "config_invalid", "timeoutSeconds", "greater than 0"),
    ],
)
def test_a_bad_config_is_told_in_the_words_of_its_author(
    config: dict[str, Any], code: str, field: str, says: str
):
    bad = {**node("a"), "data": {"config": config}}
    [problem] = found(START, bad, edges=("start>a",))
    assert (problem.code, problem.field, problem.node_id) == (code, field, "a")
    assert problem.pointer == f"/nodes/1/data/config/{field.replace('.', '/')}"
    assert says in problem.message


def test_a_misspelt_key_is_set_right():
    problems = found(
        START, node("a", "ACTION_SEND_EMAIL", emailSubjet="x", emailText="y"), edges=("start>a",)
    )
    assert [p.remedy for p in problems if p.code == "config_unknown_key"] == ["Did you mean `emailSubject`?"]


def test_a_union_complains_once_for_its_place():
    bad = node("a", "ACTION_SEND_EMAIL", emailSubject="x", emailText="y", cc={"no": 1}, bcc=["ok", 5])
    assert errors(START, bad, edges=("start>a",)) == [
        ("config_invalid", "/nodes/1/data/config/cc", "a"),
        ("config_invalid", "/nodes/1/data/config/bcc", "a"),
        ("config_invalid", "/nodes/1/data/config/bcc/1", "a"),
    ]


def test_a_config_wrong_as_a_whole_is_told_at_the_config():
    assert errors(START, node("a", "ACTION_SEND_EMAIL", emailSubject="x"), edges=("start>a",)) == [
        ("config_invalid", "/nodes/1/data/config", "a")
    ]


# Triggers and edges


def test_one_trigger_is_needed_and_no_more():
    assert errors(node("a")) == [("no_trigger", "/nodes", None)]
    assert errors(START, node("again", "TRIGGER_MANUAL")) == [("two_triggers", "/nodes/1", "again")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("start>gone", ("dangling_edge", "/edges/1/target", "start")),
        ("gone>a", ("dangling_edge", "/edges/1/source", "gone")),
        ("a.yes>b", ("unknown_handle", "/edges/1/sourceHandle", "a")),
        ("a.error>b", ("unknown_handle", "/edges/1/sourceHandle", "a")),
        ("a>start", ("edge_into_trigger", "/edges/1/target", "a")),
        ("end>b", ("no_way_out", "/edges/1/source", "end")),
    ],
)
def test_an_edge_that_no_run_can_follow_is_told(line: str, expected: tuple[str, str, str]):
    drawn = (START, node("a"), node("b"), node("end", "UTILITY_END"))
    assert expected in errors(*drawn, edges=("start>a", line))


def test_a_disabled_edge_is_not_judged_but_for_its_ends():
    off = [edge(pair, isEnabled=False) for pair in ("a.yes>b", "a>start", "b>a", "a>gone")]
    drawn = (START, node("a"), node("b"))
    assert errors(*drawn, edges=("start>a", "a>b", *off)) == [("dangling_edge", "/edges/5/target", "a")]


def test_an_edge_to_or_from_a_note_is_only_a_warning():
    drawn = (START, node("a"), node("note", "UTILITY_NOTE", text="x"))
    lines = ("start>a", "a>note", "note>a")
    assert errors(*drawn, edges=lines) == []
    assert [w[:2] for w in warnings(*drawn, edges=lines)] == [
        ("edge_to_note", "/edges/1"),
        ("edge_to_note", "/edges/2"),
    ]


def test_what_the_trigger_does_not_lead_to_is_a_warning_and_a_note_is_not():
    drawn = (START, node("a"), node("b"), node("note", "UTILITY_NOTE"))
    assert warnings(*drawn, edges=("a>b",)) == [
        ("unreachable", "/nodes/1", "a"),
        ("unreachable", "/nodes/2", "b"),
    ]


def test_each_cycle_is_told_once_with_its_nodes():
    drawn = (START, *(node(name) for name in "abcdefg"))
    lines = ("start>a", "a>b", "b>c", "c>a", "c>d", "d>e", "e>d", "e>f", "f>g")
    problems = [p for p in found(*drawn, edges=lines) if p.code == "cycle"]
    assert [p.message for p in problems] == [
        "These nodes run in a circle: `a` → `b` → `c` → `a`.",
        "These nodes run in a circle: `d` → `e` → `d`.",
    ]


def test_a_cycle_of_ten_thousand_nodes_is_found_without_recursion():
    names = [f"n{number}" for number in range(9_999)]
    drawing = Draft(
        nodes=(
            DraftNode(id="start", type="TRIGGER_MANUAL"),
            *(DraftNode(id=name, type="LOGIC_MERGE") for name in names),
        ),
        edges=tuple(
            DraftEdge(id=f"{a}>{b}", source=a, target=b)
            for a, b in zip(["start", *names], [*names, names[0]], strict=True)
        ),
    )
    assert "cycle" in [p.code for p in validation.problems(drawing, [], publishing=True)]


# onError, saveAs, conditions


def test_a_branch_for_errors_needs_an_edge_and_an_edge_needs_the_branch():
    mail = {"emailSubject": "x", "emailText": "y"}
    drawn = (
        START,
        node("a", "ACTION_SEND_EMAIL", onError="branch", **mail),
        node("b", "ACTION_SEND_EMAIL", **mail),
        node("c"),
    )
    assert warnings(*drawn, edges=("start>a", "a>b", "b.error>c")) == [
        ("no_error_edge", "/nodes/1/data/config/onError", "a"),
        ("unused_error_edge", "/edges/2/sourceHandle", "b"),
    ]


def test_two_outputs_of_one_name_are_told_at_the_one_that_was_named_so():
    drawn = (START, node("a", saveAs="x"), node("b", saveAs="x"), node("c", saveAs="a"))
    lines = ("start>a", "a>b", "b>c")
    assert errors(*drawn, edges=lines) == [("duplicate_save_as", "/nodes/2/data/config/saveAs", "b")]


def test_a_node_that_is_named_otherwise_leaves_its_id_to_others():
    assert errors(START, node("a", saveAs="b"), node("b", saveAs="c"), edges=("start>a", "a>b")) == []


def test_a_condition_needs_a_rule_somewhere():
    drawn = (START, node("if", "LOGIC_CONDITION"), node("a"))
    problem = ("no_condition", "/nodes/1/data/config/condition", "if")
    assert errors(*drawn, edges=("start>if", "if.condition_true>a")) == [problem]
    wrong = edge("if.condition_false>a", condition=RULE)
    assert errors(*drawn, edges=("start>if", wrong)) == [problem]


def test_a_bad_rule_is_told_inside_the_node_and_on_the_edge():
    bad = {"all": [RULE, {"field": "budget", "operator": "~"}]}
    drawn = (START, node("if", "LOGIC_CONDITION", condition=bad), node("a"))
    assert errors(*drawn, edges=("start>if", edge("if.condition_true>a", condition={"field": "budget"}))) == [
        ("unknown_operator", "/nodes/1/data/config/condition/all/1/operator", "if"),
        ("missing_operator", "/edges/1/data/condition", "if"),
    ]


def test_a_rule_behind_a_disabled_node_is_a_warning():
    drawn = (START, node("off", disabled=True), node("a"))
    assert warnings(*drawn, edges=("start>off", edge("off>a", condition=RULE))) == [
        ("rule_of_disabled_node", "/edges/1/data/condition", "off")
    ]


def test_a_form_without_an_address_makes_no_leads_and_says_so():
    problems = found(START, fields=())
    assert [(p.code, p.severity, p.node_id) for p in problems] == [("form_without_email", "warning", "start")]


def test_a_graph_too_large_to_travel_is_not_published():
    many = tuple(node(f"n{number}", message="x" * 100) for number in range(6_000))
    problems = found(START, *many, edges=("start>n0",))
    assert problems[0].code == "graph_too_large"
    assert problems[0].severity == "error"
    assert len(problems) == validation.PROBLEMS_CAP


def test_errors_are_never_hidden_behind_warnings():
    loose = tuple(node(f"n{number}") for number in range(600))
    last = node("last", message="{{ nothing }}")
    assert found(START, *loose, last)[0].code == "template_unknown_variable"


words = st.sampled_from(["a", "b", "start", "x", "condition_true", "error", "{{ steps.b }}", "{{", "", "all"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words | st.sampled_from(["field", "operator"]), inner, max_size=3)
    ),
    max_leaves=6,
)
keys = st.sampled_from(
    [
        "message",
        "condition",
        "mode",
        "saveAs",
        "joinMode",
        "retry",
        "disabled",
        "onError",
        "set",
        "cc",
        "data",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "a", "b", "c"]),
            st.sampled_from([*nodes.types(), "NOPE"]),
            st.dictionaries(keys, values, max_size=4),
        ),
        max_size=4,
        unique_by=lambda drawn: drawn[0],
    ),
    st.lists(
        st.tuples(
            st.sampled_from(["start", "a", "b"]),
            st.sampled_from(["c", "gone", "x"]),
            words,
            st.none() | st.dictionaries(st.sampled_from(["field", "operator", "value", "all"]), values),
        ),
        max_size=4,
    ),
)
def test_no_draft_makes_validation_raise_and_what_it_lets_through_is_published(
    drawn: list[tuple[str, str, dict[str, Any]]], lines: list[tuple[str, str, str, Any]]
):
    drawing = Draft(
        nodes=tuple(DraftNode(id=name, type=kind, config=config) for name, kind, config in drawn),
        edges=tuple(
            DraftEdge(id=str(n), source=a, target=b, source_handle=handle or None, condition=rule)
            for n, (a, b, handle, rule) in enumerate(lines)
        ),
    )
    problems = validation.problems(drawing, BUDGET, publishing=True)
    if not any(problem.severity == "error" for problem in problems):
        assert publish.compile(drawing).nodes
