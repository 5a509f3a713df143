"""Rules and groups: looked up, decided, explained, checked."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows import conditions, operators, rules

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SCOPE = {
    "trigger": {"budget": "$10000+", "plan": None, "items": [{"sku": "A"}]},
    "lead": {
        "email": "ada@example.com",
        "status": "NEW",
        "budget": 1,
        "fields": {"plan": "pro", "budget": 2},
    },
    "steps": {"ask": {"score": 7}},
}


def holds(rule: Any, scope: Any = SCOPE) -> bool:
    return conditions.evaluate(rule, scope, now=NOW, zone="UTC").holds


def rule(field: str, operator: str = "exists", value: Any = None) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


def test_the_erds_own_rule_holds():
    assert holds({"field": "budget", "operator": ">=", "value": 5000})


def test_a_bare_field_is_looked_up_in_the_trigger_then_the_custom_fields_then_the_columns():
    assert holds(rule("budget", "equals", "$10000+"))
    assert holds(rule("plan", "equals", "pro"))
    assert holds(rule("status", "equals", "NEW"))


def test_an_absolute_field_is_looked_up_where_it_says():
    assert holds(rule("lead.budget", "equals", 1))
    assert holds(rule("steps.ask.score", ">", 5))
    assert holds(rule("trigger.items.0.sku", "equals", "A"))
    assert not holds(rule("trigger.plan"))


def test_lead_operators_need_no_field():
    assert holds({"operator": "status_in", "value": ["NEW"]})
    assert holds({"operator": "has_event", "value": "OPENED"}, {"lead": {"events": ["OPENED"]}})


def test_now_can_be_asked_for_its_weekday():
    assert holds(rule("now", "weekday_in", ["mon"]))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("all", [True, False, False, False]),
        ("any", [True, True, True, False]),
        ("none", [False, False, False, True]),
    ],
)
def test_groups_count_their_rules(kind, expected):
    yes, no = rule("budget"), rule("nowhere")
    answers = [holds({kind: [first, second]}) for first in (yes, no) for second in (yes, no)]
    assert answers == expected


def test_a_verdict_explains_every_rule_and_is_json():
    verdict = conditions.evaluate(
        {"all": [rule("nowhere"), {"none": [rule("budget", ">", 20000)]}]}, SCOPE, now=NOW, zone="UTC"
    )
    dumped = json.loads(json.dumps(verdict.model_dump()))
    assert (dumped["kind"], dumped["holds"]) == ("all", False)
    assert dumped["items"][0] | {"note": "missing", "holds": False, "field": "nowhere"} == dumped["items"][0]
    leaf = dumped["items"][1]["items"][0]
    assert (leaf["left"], leaf["operator"], leaf["right"], leaf["holds"]) == ("$10000+", ">", 20000, False)


def test_a_verdict_keeps_values_short():
    verdict = conditions.evaluate(rule("x"), {"trigger": {"x": "a" * 100_000}}, now=NOW)
    assert len(verdict.left) <= conditions.TEXT_CAP + 1


@pytest.mark.parametrize(
    "value",
    [object(), float("nan"), 10**5000, {1: object()}, [[[[[]]]]], b"x", "\ud800"],
    ids=lambda value: type(value).__name__,
)
def test_odd_data_is_decided_and_shown_as_json(value):
    for operator in operators.every():
        right = 1 if operator in {"=", "!=", ">", ">=", "<", "<=", "size_eq", "size_gt", "size_lt"} else None
        asked = {"field": "x", "operator": operator, "value": right}
        if conditions.problems(asked):
            continue
        verdict = conditions.evaluate(asked, {"trigger": {"x": value}}, now=NOW)
        json.dumps(verdict.model_dump(), allow_nan=False)


MALFORMED: list[tuple[Any, str, str]] = [
    (None, "invalid_rule", ""),
    ([], "invalid_rule", ""),
    ("budget > 5", "invalid_rule", ""),
    ({}, "missing_operator", ""),
    ({"field": "a", "operator": "equal", "value": 1}, "unknown_operator", "/operator"),
    ({"field": "a", "operator": ["="], "value": 1}, "unknown_operator", "/operator"),
    ({"operator": "equals", "value": 1}, "missing_field", ""),
    ({"field": "a..b", "operator": "exists"}, "invalid_field", "/field"),
    ({"field": 7, "operator": "exists"}, "invalid_field", "/field"),
    ({"field": "a", "operator": "equals"}, "wrong_value", "/value"),
    ({"field": "a", "operator": ">", "value": "abc"}, "wrong_value", "/value"),
    ({"field": "a", "operator": "in", "value": "abc"}, "wrong_value", "/value"),
    ({"field": "a", "operator": "in", "value": []}, "wrong_value", "/value"),
    ({"field": "a", "operator": "between", "value": [5, 1]}, "wrong_value", "/value"),
    ({"field": "a", "operator": "before", "value": "soon"}, "wrong_value", "/value"),
    ({"field": "a", "operator": "within_last", "value": "-P7D"}, "wrong_value", "/value"),
    ({"field": "a", "operator": "within_last", "value": 7}, "wrong_value", "/value"),
    ({"field": "a", "operator": "weekday_in", "value": ["someday"]}, "wrong_value", "/value"),
    ({"field": "a", "operator": "size_eq", "value": -1}, "wrong_value", "/value"),
    ({"field": "a", "operator": "matches_regex", "value": "(?=a)"}, "invalid_pattern", "/value"),
    ({"field": "a", "operator": "matches_regex", "value": "("}, "invalid_pattern", "/value"),
    ({"field": "a", "operator": "matches_regex", "value": "a" * 1001}, "invalid_pattern", "/value"),
    ({"field": "a", "operator": "matches_regex", "value": 5}, "wrong_value", "/value"),
    ({"field": "a", "operator": "exists", "caseSensitive": "no"}, "wrong_value", "/caseSensitive"),
    ({"field": "a", "operator": "exists", "valeu": 1}, "unknown_key", ""),
    ({"all": []}, "empty_group", "/all"),
    ({"all": {}}, "invalid_group", "/all"),
    ({"all": [{"field": "a", "operator": "exists"}], "any": []}, "invalid_group", ""),
    (
        {"any": [{"field": "a", "operator": "exists"}, {"none": [{"field": "a"}]}]},
        "missing_operator",
        "/any/1/none/0",
    ),
]


@pytest.mark.parametrize(("written", "code", "place"), MALFORMED)
def test_a_malformed_rule_is_a_problem_with_its_place_and_cannot_be_decided(written, code, place):
    found = conditions.problems(written)
    assert (code, place) in [(problem.code, problem.pointer) for problem in found]
    assert all(problem.message for problem in found)
    with pytest.raises(conditions.ConditionError) as caught:
        conditions.evaluate(written, SCOPE, now=NOW)
    assert caught.value.problems == found


def test_an_operator_written_wrong_gets_a_suggestion():
    assert 'did you mean "contains"' in conditions.problems(rule("a", "contain", "x"))[0].message


def test_depth_and_size_are_capped():
    deep = rule("a")
    for _ in range(rules.DEPTH_CAP + 1):
        deep = {"all": [deep]}
    assert [problem.code for problem in conditions.problems(deep)] == ["rule_too_deep"]
    wide = {"all": [rule("a")] * 100_000}
    assert [problem.code for problem in conditions.problems(wide)] == ["too_many_rules"]


def test_a_rule_names_every_path_it_may_read():
    asked = {
        "all": [
            rule("budget"),
            {"none": [rule("steps.ask.score")]},
            {"operator": "status_in", "value": "NEW"},
        ]
    }
    assert conditions.reads(asked) == {
        "trigger.budget",
        "lead.fields.budget",
        "lead.budget",
        "steps.ask.score",
        "lead.status",
    }
    assert conditions.reads("nonsense") == frozenset()


def test_an_unknown_zone_is_utc_and_not_an_error():
    assert conditions.evaluate(rule("now", "on", "today"), {}, now=NOW, zone="../etc").holds


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
VALUES = [None, 5, "5", "a", ["a", 5], [1, 2], "P7D", "2026-01-01", "mon", True]
RULES = st.recursive(
    st.fixed_dictionaries(
        {
            "field": st.sampled_from(["x", "trigger.x", "lead.x", "steps.x.0.y"]),
            "operator": st.sampled_from(sorted(operators.names())),
            "value": st.sampled_from(VALUES),
            "caseSensitive": st.booleans(),
        }
    ),
    lambda inner: st.dictionaries(
        st.sampled_from(["all", "any", "none"]), st.lists(inner, max_size=3), max_size=1
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=1000)
@given(asked=RULES, value=JSON)
def test_a_sound_rule_is_decided_on_any_data(asked, value):
    scope = {"trigger": {"x": value}, "lead": {"x": value, "fields": value}, "steps": {"x": value}}
    if conditions.problems(asked):
        with pytest.raises(conditions.ConditionError):
            conditions.evaluate(asked, scope, now=NOW)
        return
    verdict = conditions.evaluate(asked, scope, now=NOW, zone="Europe/Berlin")
    json.dumps(verdict.model_dump(), allow_nan=False)
    assert (
        conditions.evaluate({"none": [asked]}, scope, now=NOW, zone="Europe/Berlin").holds
        is not verdict.holds
    )


@settings(deadline=1000)
@given(written=JSON | RULES)
def test_checking_and_reading_never_raise(written):
    conditions.problems(written)
    conditions.reads(written)
