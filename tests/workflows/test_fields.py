"""Form fields: their definitions, and the answers of people and machines."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows import fields
from workflows.fields import Field, FieldType

EMAIL = Field(field_key="email", label="E-mail", field_type="EMAIL", is_required=True)
BUDGET = Field(
    field_key="budget", label="Budget", field_type="DROPDOWN", options=["$500", "$5000", "$10000+"]
)
SEATS = Field(field_key="seats", field_type="NUMBER", validation={"min": 1, "max": 100})
START = Field(field_key="start", field_type="DATE", validation={"min": "2026-01-01", "max": "2026-12-31"})
TERMS = Field(field_key="terms", label="I agree", field_type="CHECKBOX")
NOTE = Field(
    field_key="note",
    label="Note",
    field_type="TEXT",
    validation={"minLength": 2, "maxLength": 10, "pattern": r"[a-zé \n]+"},
)
FORM = [EMAIL, BUDGET, SEATS, START, TERMS, NOTE]


def check(field: Field, answer: Any) -> fields.Answers:
    return fields.check([field], {field.field_key: answer})


def code(field: Field, answer: Any) -> str:
    (problem,) = check(field, answer).problems
    assert problem.field == field.field_key
    assert field.name in problem.message
    return problem.code


def test_a_whole_form_comes_back_stored_and_typed():
    found = fields.check(
        FORM,
        {
            "email": " Ada@Example.COM ",
            "budget": "$5000",
            "seats": "012.50",
            "start": "2026-05-01",
            "terms": "on",
            "note": "caf\u0065\u0301",
        },
    )
    assert found.problems == ()
    assert found.values == {
        "email": "ada@example.com",
        "budget": "$5000",
        "seats": "12.5",
        "start": "2026-05-01",
        "terms": "true",
        "note": "café",
    }
    assert found.typed == found.values | {"seats": 12.5, "terms": True}


@pytest.mark.parametrize(
    "written", ["A@EXAMPLE.com", "a@example.com", "Ａ@example.com", " a@example.com\n", "a@ＥXAMPLE.com"]
)
def test_one_person_is_one_address_however_it_is_written(written):
    assert check(EMAIL, written).values == {"email": "a@example.com"}


@pytest.mark.parametrize(
    "written",
    [
        "a",
        "a@",
        "@example.com",
        "a@b",
        "a b@example.com",
        "a@example.com, b@example.com",
        "Ada <a@example.com>",
        "a" * 65 + "@example.com",
        "a@exa mple.com",
        "a@example..com",
        "a@[127.0.0.1]",
        '"a b"@example.com',
        "a@localhost",
        "a@example.com\nBcc: x@example.com",
    ],
)
def test_what_is_no_address_is_refused(written):
    assert code(EMAIL, written) in {"invalid_email", "invalid_characters"}


def test_a_lookalike_domain_is_accepted_and_flagged():
    found = check(EMAIL, "a@exаmple.com")  # the second а is Cyrillic
    assert found.problems == ()
    assert [flag.code for flag in found.flags] == ["lookalike_domain"]
    assert check(EMAIL, "a@example.com").flags == ()


@pytest.mark.parametrize(
    ("written", "stored", "typed"),
    [
        ("5", "5", 5),
        (5, "5", 5),
        (5.5, "5.5", 5.5),
        ("5.0", "5", 5),
        ("+5", "5", 5),
        (" 5 ", "5", 5),
        ("00100", "100", 100),
        (1e1, "10", 10),
        ("1.10", "1.1", 1.1),
    ],
)
def test_a_number_has_one_way_to_be_stored(written, stored, typed):
    found = check(SEATS, written)
    assert (found.values, found.typed) == ({"seats": stored}, {"seats": typed})


def test_minus_nought_is_nought():
    plain = Field(field_key="n", field_type="NUMBER")
    assert [check(plain, written).values["n"] for written in ("-0", "-0.00", 0, -0.0)] == ["0"] * 4


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("１２", "invalid_number"),
        ("5,000", "invalid_number"),
        ("1e3", "invalid_number"),
        ("0x10", "invalid_number"),
        ("five", "invalid_number"),
        ("1_000", "invalid_number"),
        ("NaN", "invalid_number"),
        ("9" * 400, "invalid_number"),
        (float("nan"), "invalid_number"),
        (float("inf"), "invalid_number"),
        (1e300, "invalid_number"),
        (True, "wrong_type"),
        (10**400, "number_too_large"),
        (2**63, "number_too_large"),
        (0, "too_small"),
        ("101", "too_large"),
        ([5, 6], "repeated_field"),
        ({"a": 1}, "wrong_type"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_number_in_range_is_refused(written, expected):
    assert code(SEATS, written) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("31.12.2026", "invalid_date"),
        ("20260501", "invalid_date"),
        ("2026-W01-1", "invalid_date"),
        ("2026-02-30", "invalid_date"),
        ("２026-01-01", "invalid_date"),
        (20260501, "wrong_type"),
        ("2025-12-31", "too_small"),
        ("2027-01-01", "too_large"),
        ("2026-05-01T10:00", "invalid_date"),
    ],
)
def test_what_is_no_day_in_range_is_refused(written, expected):
    assert code(START, written) == expected


@pytest.mark.parametrize("written", ["$501", "5000", "$5000 ", "$500,$5000", "$10000", "null", 5000, True])
def test_only_the_options_of_a_drop_down_are_answers(written):
    found = check(BUDGET, written)
    assert bool(found.problems) is (written != "$5000 ")


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("on", "true"),
        ("true", "true"),
        (True, "true"),
        ("1", "true"),
        ("off", "false"),
        (False, "false"),
        ("", "false"),
    ],
)
def test_a_checkbox_is_yes_or_no(written, stored):
    assert check(TERMS, written).values == {"terms": stored}


def test_a_checkbox_nobody_touched_is_no_and_a_required_one_must_be_ticked():
    assert fields.check([TERMS], {}).values == {"terms": "false"}
    required = TERMS.model_copy(update={"is_required": True})
    (problem,) = fields.check([required], {}).problems
    assert (problem.code, problem.message) == ("missing_field", "Please tick “I agree”.")
    assert code(TERMS, "perhaps") == "wrong_type"
    assert code(TERMS, 1) == "wrong_type"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a\x00b", "invalid_characters"),
        ("a\x1bb", "invalid_characters"),
        ("a\ud800b", "invalid_characters"),
        ("a\x85b", "invalid_characters"),
        ("a", "too_short"),
        ("a" * 11, "too_long"),
        ("a" * 5001, "too_long"),
        ("ABC", "pattern_mismatch"),
        (5, "wrong_type"),
        (["a", "b"], "repeated_field"),
        ({}, "wrong_type"),
    ],
)
def test_text_that_cannot_be_stored_or_does_not_fit_is_refused(written, expected):
    assert code(NOTE, written) == expected


def test_line_breaks_stay_in_text_and_nowhere_else():
    assert check(NOTE, "ab\r\ncd").values == {"note": "ab\ncd"}
    assert code(BUDGET, "$500\n$5000") == "invalid_characters"


def test_unknown_repeated_missing_and_mistyped_answers_are_all_named():
    found = fields.check(
        FORM, {"bogus": 1, "__proto__": {}, "budget": ["a", "b"], "seats": "x", "terms": "on"}
    )
    assert [(problem.field, problem.code) for problem in found.problems] == [
        ("bogus", "unknown_field"),
        ("__proto__", "unknown_field"),
        ("email", "missing_field"),
        ("budget", "repeated_field"),
        ("seats", "invalid_number"),
    ]
    assert found.values == {"terms": "true"}


def test_an_optional_answer_left_out_is_no_value():
    assert fields.check([NOTE, BUDGET, SEATS, START], {"note": "", "budget": None, "seats": " "}).values == {}


def test_too_many_answers_are_refused_before_they_are_read():
    found = fields.check(FORM, {f"k{number}": object() for number in range(500_000)})
    assert [problem.code for problem in found.problems] == ["too_many_answers"]


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"field_key": "1st"}, "invalid_field_key"),
        ({"field_key": "__proto__"}, "invalid_field_key"),
        ({"field_key": "a.b"}, "invalid_field_key"),
        ({"field_key": "a" * 65}, "invalid_field_key"),
        ({"field_type": "DROPDOWN"}, "missing_options"),
        ({"field_type": "DROPDOWN", "options": ["a", "a "]}, "duplicate_option"),
        ({"field_type": "DROPDOWN", "options": ["a", " "]}, "invalid_option"),
        ({"field_type": "DROPDOWN", "options": [str(n) for n in range(201)]}, "too_many_options"),
        ({"options": ["a"]}, "unexpected_options"),
        ({"validation": {"pattern": "("}}, "invalid_pattern"),
        ({"validation": {"pattern": "(?=a)"}}, "invalid_pattern"),
        ({"validation": {"minLength": 5, "maxLength": 2}}, "invalid_limit"),
        ({"validation": {"maxLength": -1}}, "invalid_limit"),
        ({"validation": {"min": 5}}, "invalid_limit"),
        ({"field_type": "NUMBER", "validation": {"min": "x"}}, "invalid_limit"),
        ({"field_type": "NUMBER", "validation": {"min": 5, "max": 1}}, "invalid_limit"),
        ({"field_type": "DATE", "validation": {"min": 5}}, "invalid_limit"),
        ({"label": "a\x00"}, "invalid_text"),
    ],
)
def test_a_broken_definition_is_a_problem_with_its_place(definition, expected):
    field = Field.model_validate({"field_key": "f", "field_type": "TEXT"} | definition)
    found = fields.field_problems(field)
    assert expected in [problem.code for problem in found]
    assert all(problem.pointer.startswith("/") for problem in found)


def test_the_erds_field_and_a_whole_form_are_sound():
    assert fields.form_problems(FORM) == []


def test_a_form_has_each_key_once_and_at_most_100_fields():
    assert [problem.code for problem in fields.form_problems([NOTE, NOTE])] == ["duplicate_field_key"]
    many = [Field(field_key=f"f{number}", field_type="TEXT") for number in range(101)]
    assert [problem.code for problem in fields.form_problems(many)] == ["too_many_fields"]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([field.field_key for field in FORM]) | st.text(max_size=10)


@settings(max_examples=300, deadline=1000)
@given(st.dictionaries(KEYS, ANY, max_size=8))
def test_any_answers_are_checked_without_an_error(answers):
    found = fields.check(FORM, answers)
    assert set(found.values) == set(found.typed) <= {field.field_key for field in FORM}
    assert not {problem.field for problem in found.problems} & set(found.values)
    json.dumps(found.model_dump(), allow_nan=False).encode()


@settings(deadline=1000)
@given(
    field=st.sampled_from(FORM),
    answer=st.text(max_size=30) | st.sampled_from(["5", "2026-05-01", "$500", "on", "ab"]),
)
def test_what_was_stored_is_accepted_again_and_stays_the_same(field, answer):
    first = check(field, answer)
    if first.values:
        assert check(field, first.values[field.field_key]) == first


def test_the_field_types_are_the_erds():
    assert set(FieldType) == {"TEXT", "EMAIL", "DROPDOWN", "NUMBER", "DATE", "CHECKBOX"}


def test_an_address_that_our_mail_server_would_refuse_is_refused_at_the_form():
    field = Field(field_key="email", label="E-mail", field_type=FieldType.EMAIL)
    (problem,) = fields.check([field], {"email": "ü@example.com"}).problems
    assert problem.field == "email"
