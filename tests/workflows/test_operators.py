"""Every operator, on what it is for and on what it is not for."""

from datetime import UTC, datetime
from typing import Any

import pytest

from workflows import conditions, operators

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # a Monday

HOLDS = [
    ("Yes", "equals", "yes"),
    ("5,000", "equals", 5000),
    (5000, "equals", "$5000"),
    ("NEW", "==", "NEW"),
    ("NEW", "eq", "new"),
    (True, "equals", "true"),
    ("true", "equals", True),
    ([1, 2], "equals", [1, 2]),
    ({"a": 1}, "equals", {"a": 1}),
    ("a", "not_equals", "b"),
    ("a", "ne", "b"),
    ("", "is_empty", None),
    ("  ", "is_empty", None),
    ([], "is_empty", None),
    ({}, "is_empty", None),
    (None, "is_empty", None),
    ("a", "is_not_empty", None),
    (0, "is_not_empty", None),
    (False, "is_not_empty", None),
    ("", "exists", None),
    (None, "not_exists", None),
    ("b", "in", ["a", "B"]),
    ("$500", "in", [500, 5000]),
    ("c", "not_in", ["a", "b"]),
    ("Hello World", "contains", "world"),
    (["a", "b"], "contains", "B"),
    ("Hello", "not_contains", "x"),
    ("Hello", "starts_with", "he"),
    ("Hello", "ends_with", "LO"),
    (5000, "starts_with", "5"),
    ("AB-12", "matches_regex", r"^ab-\d+$"),
    ("ada@Example.com", "email_domain_in", ["example.com", "x.org"]),
    ("ada@example.com", "email_domain_in", "@example.com"),
    ("$5,000", "=", 5000),
    ("NEW", "=", "new"),
    ("$5,001", "!=", 5000),
    ("$10000+", ">", 5000),
    ("$10000+", "gt", "$5,000"),
    ("5 000.00", ">=", 5000),
    ("5000", "gte", 5000),
    ("€4999", "<", 5000),
    ("1", "lt", 2),
    ("5.000,00", "<=", 5000),
    (1, "lte", 1),
    ("$750", "between", [500, 1000]),
    (500, "between", {"min": 500, "max": 1000}),
    (True, "is_true", None),
    ("on", "is_true", None),
    (1, "is_true", None),
    ("false", "is_false", None),
    (0, "is_false", None),
    ("2026-01-09", "before", "2026-01-10"),
    ("2026-01-10T08:00:00Z", "before", "2026-01-10T09:00:00Z"),
    ("2026-11-24", "after", "today"),
    ("2026-11-23T13:00:00Z", "after", "now"),
    ("2026-11-23T23:30:00Z", "on", "2026-11-23"),
    ("2026-11-17T12:00:00Z", "within_last", "P7D"),
    ("2026-11-16", "within_last", {"days": 7}),
    ("2026-11-30", "within_next", "P7D"),
    ("2026-11-23T12:30:00Z", "within_next", "PT1H"),
    ("2026-11-23", "weekday_in", ["mon", "fri"]),
    ("2026-11-22", "weekday_in", 7),
    (["a", "b"], "contains_any", ["b", "z"]),
    ("red, green", "contains_any", ["GREEN"]),
    (["a", "b"], "contains_all", ["b", "a"]),
    (["a", "b"], "size_eq", 2),
    (["a", "b"], "size_gt", 1),
    ([], "size_lt", 1),
    ("qualified", "status_in", ["NEW", "QUALIFIED"]),
    (["FORM_SUBMITTED"], "has_event", "form_submitted"),
    ([{"event_type": "EMAIL_OPENED"}], "has_event", ["EMAIL_OPENED"]),
]

FAILS = [
    ("a", "equals", "b"),
    ("I have 5000 friends", "equals", 5000),
    ("1", "equals", "true"),
    ([1], "equals", "1"),
    ("a", "not_equals", "A"),
    ("b", "not_in", ["B"]),
    ("Hello", "contains", "x"),
    ("Hello", "not_contains", "ell"),
    ({"a": 1}, "contains", "a"),
    ({"a": 1}, "not_contains", "b"),
    (["a"], "starts_with", "a"),
    ([], "matches_regex", "a"),
    ("ada@sub.example.com", "email_domain_in", ["example.com"]),
    ("example.com", "email_domain_in", ["example.com"]),
    ("abc", ">", 5),
    ("abc", "!=", 5),
    ("１２", "=", 12),
    (True, "=", 1),
    ([5], ">", 1),
    ("1500", "between", [500, 1000]),
    ("maybe", "is_true", None),
    ("maybe", "is_false", None),
    ("soon", "before", "2026-01-10"),
    ("2026-01-10T08:00:00Z", "before", "2026-01-10"),
    ("2026-11-24", "within_last", "P7D"),
    ("2026-11-15", "within_last", "P7D"),
    ("2026-11-22", "within_next", "P7D"),
    ("2026-12-01", "within_next", "P7D"),
    ("2026-11-23", "weekday_in", ["tue"]),
    (["a"], "contains_all", ["a", "b"]),
    ("text", "size_gt", 1),
    ("LOST", "status_in", "WON"),
    ("FORM_SUBMITTED", "has_event", "FORM_SUBMITTED"),
    ([1, None, {"x": 1}], "has_event", "FORM_SUBMITTED"),
]


def decide(left: Any, operator: str, right: Any, **more: Any) -> conditions.Verdict:
    rule = {"field": "trigger.answer", "operator": operator, "value": right, **more}
    return conditions.evaluate(rule, {"trigger": {"answer": left}}, now=NOW, zone="UTC")


@pytest.mark.parametrize(("left", "operator", "right"), HOLDS)
def test_the_operator_holds(left, operator, right):
    assert decide(left, operator, right).holds


@pytest.mark.parametrize(("left", "operator", "right"), FAILS)
def test_the_operator_does_not_hold(left, operator, right):
    assert not decide(left, operator, right).holds


@pytest.mark.parametrize("operator", sorted(operators.every()))
def test_a_missing_left_side_makes_all_but_two_operators_false(operator):
    right = next(value for _, name, value in HOLDS if operators.named(name) is operators.named(operator))
    verdict = decide(None, operator, right)
    assert verdict.holds is (operator in {"is_empty", "not_exists"})
    assert verdict.note == (None if verdict.holds else "missing")


def test_every_operator_of_the_catalogue_is_there_with_its_aliases():
    catalogue = """equals not_equals is_empty is_not_empty exists not_exists in not_in
        contains not_contains starts_with ends_with matches_regex email_domain_in
        = != > >= < <= between is_true is_false before after on within_last within_next weekday_in
        contains_any contains_all size_eq size_gt size_lt status_in has_event"""
    assert set(operators.every()) == set(catalogue.split())
    assert set(operators.names()) - set(operators.every()) == {"==", "eq", "ne", "gt", "gte", "lt", "lte"}


def test_every_operator_stands_in_the_table_above():
    tried = {operators.named(name) for _, name, _ in HOLDS}
    assert tried == set(operators.every().values())


@pytest.mark.parametrize(
    ("left", "operator", "right"),
    [
        ("Yes", "equals", "yes"),
        ("Hello", "contains", "hello"),
        ("AB", "matches_regex", "ab"),
        ("a", "in", ["A"]),
    ],
)
def test_case_counts_when_the_rule_says_so(left, operator, right):
    assert decide(left, operator, right).holds
    assert not decide(left, operator, right, caseSensitive=True).holds


def test_text_without_a_number_is_noted():
    assert decide("abc", ">", 5).note == "no number in 'abc'"
    assert decide(["x"], ">", 5).note == "no number in a list"


def test_the_day_is_the_leads_day():
    rule = {"field": "at", "operator": "on", "value": "2026-11-24"}
    scope = {"trigger": {"at": "2026-11-23T23:30:00Z"}}
    assert conditions.evaluate(rule, scope, now=NOW, zone="Europe/Berlin").holds
    assert not conditions.evaluate(rule, scope, now=NOW, zone="America/New_York").holds


def test_long_lists_on_both_sides_are_compared_quickly(within):
    left = [f"item {number}" for number in range(50_000)]
    right = [f"$ {number},5" for number in range(200)]
    with within(1.5):
        assert not decide(left, "contains_any", right).holds


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*x", "a{1000}"])
def test_a_pattern_that_explodes_elsewhere_is_linear_here(pattern, within):
    with within(1.0):
        decide("a" * 60_000 + "!", "matches_regex", pattern)


def test_a_lone_surrogate_in_data_is_no_error():
    assert decide("a\ud800b", "matches_regex", "^a.+b$").holds
