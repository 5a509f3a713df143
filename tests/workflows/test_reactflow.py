"""React Flow's JSON comes back as it went in, or its mistakes are told with their places."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflows.documents import document, edge, node, told
from workflows import reactflow


def problems(document: object) -> list[tuple[str, str, str | None]]:
    reading = reactflow.read(document)
    assert (reading.draft is None) == bool(reading.problems)
    assert all(problem.message and problem.remedy for problem in reading.problems)
    return told(reading.problems)


def test_what_we_do_not_know_comes_back_untouched():
    given = {
        "nodes": [
            {
                "id": "a",
                "type": "UTILITY_LOG",
                "position": {"x": 1.5, "y": -3, "z": 2},
                "data": {"label": "Ä 🎉", "config": {"message": "x", "later": [None]}, "color": {"r": 1}},
                "measured": {"width": 120.25},
                "selected": True,
                "parentId": None,
            },
            {"id": "b", "type": "group", "position": {"x": 0, "y": 0}, "data": {"config": {}}},
        ],
        "edges": [
            {
                "id": "e",
                "source": "a",
                "target": "b",
                "sourceHandle": "default",
                "targetHandle": None,
                "type": "smoothstep",
                "markerEnd": {"type": "arrow"},
                "data": {"condition": {"any": []}, "isEnabled": False, "path": "M0"},
            }
        ],
        "viewport": {"x": 10, "y": 20, "zoom": 0.5},
    }
    reading = reactflow.read(given)
    assert reading.problems == []
    assert reading.draft is not None
    assert reactflow.write(reading.draft) == given


def test_what_was_left_out_gets_its_ordinary_value():
    given = {"nodes": [{"id": "a", "type": "X"}, {"id": "b", "type": "X", "data": None}], "edges": []}
    reading = reactflow.read(
        {**given, "edges": [{"id": "e", "source": "a", "target": "b", "sourceHandle": ""}]}
    )
    assert reading.draft is not None
    written = reactflow.write(reading.draft)
    assert written["nodes"][0] == {
        "id": "a",
        "type": "X",
        "position": {"x": 0, "y": 0},
        "data": {"config": {}},
    }
    assert written["edges"][0]["sourceHandle"] is None
    assert written["edges"][0]["data"] == {"isEnabled": True}
    assert written["viewport"] == {"x": 0, "y": 0, "zoom": 1}


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcÄ", max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(plain, plain, st.dictionaries(st.sampled_from(["style", "z", "note"]), plain))
def test_unknown_keys_of_every_kind_come_back(config: object, inner: object, extra: dict[str, Any]):
    one = {**extra, **node("a"), "data": {"config": {"x": config}, "mine": inner}}
    line = {**extra, **edge("a>b"), "data": {"isEnabled": True, "mine": inner}}
    reading = reactflow.read({"nodes": [one, node("b")], "edges": [line]})
    assert reading.draft is not None, reading.problems
    written = json.loads(json.dumps(reactflow.write(reading.draft)))
    assert written["nodes"][0] == one
    assert written["edges"][0] == {**line, "sourceHandle": None, "targetHandle": None}


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "nodes": anything
            | st.lists(
                st.dictionaries(st.sampled_from(["id", "type", "data", "position", "x"]), anything),
                max_size=4,
            ),
            "edges": anything
            | st.lists(
                st.dictionaries(
                    st.sampled_from(["id", "source", "target", "data", "sourceHandle"]), anything
                ),
                max_size=4,
            ),
            "viewport": anything,
        },
    )
    | anything
)
def test_nothing_that_is_sent_raises_and_every_answer_can_be_written(given: object):
    reading = reactflow.read(given)
    assert (reading.draft is None) == bool(reading.problems)
    "".join(problem.model_dump_json() for problem in reading.problems).encode()
    if reading.draft is not None:
        json.dumps(reactflow.write(reading.draft), allow_nan=False).encode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ("invalid_graph", "", None)),
        ({}, ("missing", "/nodes", None)),
        ({"nodes": [], "edges": {}}, ("wrong_type", "/edges", None)),
        ({"nodes": ["a"], "edges": []}, ("wrong_type", "/nodes/0", None)),
        ({"nodes": [], "edges": [1]}, ("wrong_type", "/edges/0", None)),
        ({"nodes": [], "edges": [], "viewport": 1}, ("wrong_type", "/viewport", None)),
    ],
)
def test_what_is_no_graph_is_told(given: object, expected: tuple[str, str, str | None]):
    assert problems(given) == [expected]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"id": None}, ("missing", "/nodes/0/id", None)),
        ({"id": " "}, ("missing", "/nodes/0/id", " ")),
        ({"id": 7}, ("wrong_type", "/nodes/0/id", None)),
        ({"id": "x" * 201}, ("too_long", "/nodes/0/id", "x" * 200)),
        ({"id": "a\nb"}, ("bad_characters", "/nodes/0/id", "a\nb")),
        ({"id": "a\u2028b"}, ("bad_characters", "/nodes/0/id", "a\u2028b")),
        ({"type": None}, ("missing", "/nodes/0/type", "a")),
        ({"type": ""}, ("missing", "/nodes/0/type", "a")),
        ({"data": []}, ("wrong_type", "/nodes/0/data", "a")),
        ({"data": {"config": "x"}}, ("wrong_type", "/nodes/0/data/config", "a")),
        ({"data": {"label": 1}}, ("wrong_type", "/nodes/0/data/label", "a")),
        ({"data": {"label": "x" * 501}}, ("too_long", "/nodes/0/data/label", "a")),
        ({"position": 1}, ("wrong_type", "/nodes/0/position", "a")),
        ({"position": {"x": "1", "y": 0}}, ("wrong_type", "/nodes/0/position/x", "a")),
        ({"position": {"x": True}}, ("wrong_type", "/nodes/0/position/x", "a")),
        ({"data": {"config": {"m": "a\0b"}}}, ("bad_value", "/nodes/0/data/config/m", "a")),
        ({"data": {"config": {"m\0": 1}}}, ("bad_value", "/nodes/0/data/config", "a")),
        ({"data": {"config": {"m": "\ud800"}}}, ("bad_value", "/nodes/0/data/config/m", "a")),
        ({"extra": [float("nan")]}, ("bad_value", "/nodes/0/extra/0", "a")),
        ({"data": {"config": {"m": float("-inf")}}}, ("bad_value", "/nodes/0/data/config/m", "a")),
        ({"a/b~c": "\0"}, ("bad_value", "/nodes/0/a~1b~0c", "a")),
    ],
)
def test_a_bad_node_is_told_with_its_place_and_name(
    changed: dict[str, Any], expected: tuple[str, str, str | None]
):
    assert problems({"nodes": [{**node("a"), **changed}], "edges": []}) == [expected]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"id": None}, ("missing", "/edges/0/id", "a")),
        ({"source": None}, ("missing", "/edges/0/source", None)),
        ({"target": 1}, ("wrong_type", "/edges/0/target", "a")),
        ({"target": "a"}, ("self_loop", "/edges/0/target", "a")),
        ({"sourceHandle": 1}, ("wrong_type", "/edges/0/sourceHandle", "a")),
        ({"targetHandle": "x" * 201}, ("too_long", "/edges/0/targetHandle", "a")),
        ({"data": {"condition": []}}, ("wrong_type", "/edges/0/data/condition", "a")),
        ({"data": {"isEnabled": "yes"}}, ("wrong_type", "/edges/0/data/isEnabled", "a")),
    ],
)
def test_a_bad_edge_is_told_with_its_place_and_the_node_it_leaves(
    changed: dict[str, Any], expected: tuple[str, str, str | None]
):
    given = {"nodes": [node("a"), node("b")], "edges": [{**edge("a>b"), **changed}]}
    assert problems(given) == [expected]


def test_repeated_ids_are_told_at_the_second():
    given = document(node("a"), node("b"), node("a"), edges=("a>b", "a>b"))
    assert problems(given) == [
        ("duplicate_node_id", "/nodes/2/id", "a"),
        ("duplicate_edge_id", "/edges/1/id", "a"),
    ]


def test_an_edge_to_nowhere_is_no_mistake_of_form():
    assert problems(document(node("a"), edges=("a>gone",))) == []


def test_nesting_without_end_is_refused_without_recursion():
    deep: Any = "x"
    for _ in range(5_000):
        deep = [deep]
    [problem] = reactflow.read(document({**node("a"), "deep": deep})).problems
    assert (problem.code, problem.node_id) == ("bad_value", "a")


@pytest.mark.parametrize(
    ("nodes", "edges", "code"),
    [(10_001, 0, "too_many_nodes"), (2, 20_001, "too_many_edges")],
)
def test_a_graph_has_its_limits(nodes: int, edges: int, code: str):
    given = {"nodes": [node(str(n)) for n in range(nodes)], "edges": [edge("0>1") for _ in range(edges)]}
    assert [problem[0] for problem in problems(given)] == [code]


def test_ten_thousand_nodes_are_read():
    given = {"nodes": [node(str(n)) for n in range(10_000)], "edges": []}
    assert problems(given) == []


def test_a_mebibyte_of_config_is_refused_at_the_largest_node():
    given = document(node("a"), node("b", message="ä" * 2**19), node("c", message="x" * 100))
    assert problems(given) == [("config_too_large", "/nodes/1/data/config", "b")]
    ruled = document(node("a"), edges=(edge("a>b", condition={"field": "x" * 2**20}),))
    assert [problem[0] for problem in problems(ruled)] == ["config_too_large"]


def test_what_is_kept_without_being_known_has_its_limit_too():
    assert [p[0] for p in problems(document({**node("a"), "x": "y" * 2**22}))] == ["extra_too_large"]


def test_a_document_wrong_everywhere_is_not_read_to_the_end():
    assert len(problems({"nodes": [1] * 5_000, "edges": []})) == reactflow.PROBLEMS_CAP
