"""A tenant's JSON Schema is checked, never fetches anything, and never costs more than it may."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows import schemas, shapes
from workflows.schemas import Unusable

ORDER: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/order",
    "type": "object",
    "properties": {
        "email": {"type": "string", "format": "email"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 1},
        "$ref": {"type": "string"},
        "code": {"type": "string", "pattern": "^[A-Z]+$"},
    },
    "required": ["email"],
    "additionalProperties": False,
    "$defs": {"line": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
}


def test_a_schema_without_complaints_is_asked_of_data():
    assert schemas.complaints(ORDER) == []
    assert schemas.check(ORDER, {"email": "a@example.com", "lines": [{"n": 1}], "$ref": "x"}) == []
    found = schemas.check(ORDER, {"lines": [{"n": 1}, {"n": "x"}, {}], "colour": 1, "code": "abc"})
    assert sorted(complaint.path for complaint in found) == [
        ("code",),
        ("colour",),
        ("email",),
        ("lines", 1, "n"),
        ("lines", 2, "n"),
    ]
    assert all(complaint.message for complaint in found)


@pytest.mark.parametrize(
    ("schema", "path", "says"),
    [
        ({"type": "strin"}, ("type",), "strin"),
        ({"properties": {"a": {"minimum": "x"}}}, ("properties", "a", "minimum"), "number"),
        ({"required": "a"}, ("required",), "array"),
        ({"properties": {"a": {"pattern": "("}}}, ("properties", "a", "pattern"), "regex"),
        ({"properties": {"a": {"pattern": "(?=x)x"}}}, ("properties", "a", "pattern"), "regex"),
        ({"$ref": "https://127.0.0.1:1/x"}, ("$ref",), "part of this schema"),
        ({"items": {"$ref": "other.json#/a"}}, ("items", "$ref"), "part of this schema"),
        ({"$ref": "#/$defs/no"}, ("$ref",), "nothing at"),
        ({"properties": {"child": {"$ref": "#"}}}, ("properties", "child", "$ref"), "back to itself"),
        ({"$dynamicRef": "#x"}, ("$dynamicRef",), "not supported"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(schema: dict[str, Any], path: tuple[str, ...], says: str):
    [complaint] = schemas.complaints(schema)
    assert complaint.path == path
    assert says in complaint.message


def test_what_would_be_fetched_or_never_end_is_not_asked_of_data():
    for schema in ({"$ref": "https://127.0.0.1:1/x"}, {"$ref": "#"}, {"type": "strin"}):
        with pytest.raises(Unusable):
            schemas.check(schema, {})


def test_references_that_multiply_are_refused_in_no_time():
    laughs: dict[str, Any] = {"a0": {"type": "string"}}
    for number in range(1, 30):
        laughs[f"a{number}"] = {"allOf": [{"$ref": f"#/$defs/a{number - 1}"}] * 2}
    schema = {"$ref": "#/$defs/a29", "$defs": laughs}
    began = time.perf_counter()
    [complaint] = schemas.complaints(schema)
    assert "parts" in complaint.message
    assert shapes.of_schema({"type": "object", "properties": {"x": schema}}).fields["x"].is_any
    assert time.perf_counter() - began < 1


def test_a_long_chain_of_references_is_refused():
    links = {f"a{number}": {"$ref": f"#/$defs/a{number + 1}"} for number in range(900)}
    schema = {"$ref": "#/$defs/a0", "$defs": {**links, "a900": {"type": "string"}}}
    [complaint] = schemas.complaints(schema)
    assert "at most 32" in complaint.message
    assert shapes.of_schema({"type": "object", "properties": {"x": schema}}).fields["x"].is_any


NUMBERED = [{"type": "string", "title": str(number)} for number in range(40)]


@pytest.mark.parametrize(
    ("schema", "data", "says"),
    [
        ({"items": {"allOf": NUMBERED}}, [*range(5_000)], "does not follow"),
        ({"anyOf": [{"items": {"allOf": NUMBERED}}] * 2}, [*range(2_000)], "does not follow"),
        ({"items": {"enum": [{"n": n} for n in range(9_000)]}}, [{"n": 9_001}] * 9_000, "too large"),
        ({"type": ["strin"] * 100_000}, None, "does not follow"),
    ],
)
def test_no_pair_of_schema_and_data_keeps_others_waiting(schema: dict[str, Any], data: Any, says: str):
    began = time.perf_counter()
    [complaint] = schemas.complaints(schema) or schemas.check(schema, data)
    assert says in complaint.message
    assert time.perf_counter() - began < 1


def test_a_pattern_takes_time_in_proportion_to_the_text():
    schema = {"properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    began = time.perf_counter()
    assert len(schemas.check(schema, {"a": "a" * 100_000 + "!"})) == 1
    assert time.perf_counter() - began < 1


words = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "$ref",
        "allOf",
        "anyOf",
        "required",
        "pattern",
        "enum",
        "const",
        "$defs",
        "a",
    ]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["object", "string", "#", "#/$defs/a", "x", "("]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(words, values, max_size=5), values)
def test_no_schema_makes_anything_raise_and_what_has_no_complaints_can_be_asked(
    schema: dict[str, Any], data: Any
):
    shapes.of_schema(schema)
    if not schemas.complaints(schema):
        schemas.check(schema, data)
