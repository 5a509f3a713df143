"""A graph is a value: equal content is equal, and it says who follows whom."""

import pytest
from pydantic import ValidationError

from tests.workflows.drawn import edges, log, trigger
from workflows.graph import Edge, Graph, Node, split_key, step_key


def test_equal_content_has_an_equal_hash_whatever_the_order_of_its_keys():
    one = log("a", config={"message": "x", "data": {"p": 1, "q": [1, 2]}})
    other = log("a", config={"data": {"q": [1, 2], "p": 1}, "message": "x"})
    assert Graph(nodes=(one,), edges=()).content_hash == Graph(nodes=(other,), edges=()).content_hash


@pytest.mark.parametrize(
    "changed",
    [
        Graph(nodes=(trigger(), log("a", config={"message": "y"})), edges=edges("start>a")),
        Graph(nodes=(trigger(), log("a", label="A")), edges=edges("start>a")),
        Graph(nodes=(trigger(), log("a", join="all")), edges=edges("start>a")),
        Graph(nodes=(trigger(), log("a", disabled=True)), edges=edges("start>a")),
        Graph(nodes=(trigger(), log("a")), edges=edges("start.error>a")),
        Graph(nodes=(trigger(), log("a")), edges=()),
    ],
)
def test_every_change_of_what_runs_changes_the_hash(changed: Graph):
    assert Graph(nodes=(trigger(), log("a")), edges=edges("start>a")).content_hash != changed.content_hash


def test_a_hash_survives_json():
    graph = Graph(nodes=(trigger(), log("ä", config={"message": "é", "data": 1.5})), edges=edges("start>ä"))
    assert Graph.model_validate_json(graph.model_dump_json()).content_hash == graph.content_hash


def test_edges_to_nowhere_are_ignored_and_order_is_as_drawn():
    graph = Graph(
        nodes=(trigger(), log("a"), log("b")), edges=edges("start>b", "start>gone", "gone>a", "start>a")
    )
    assert [edge.target for edge in graph.outgoing["start"]] == ["b", "a"]
    assert [edge.source for edge in graph.incoming["a"]] == ["start"]
    assert graph.outgoing.keys() == {"start", "a", "b"}


@pytest.mark.parametrize(
    ("handle", "leaving", "follows"),
    [
        (None, ("default",), True),
        (None, ("error",), False),
        (None, ("error", "other"), True),
        (None, (), False),
        ("yes", ("no",), False),
        ("yes", ("no", "yes"), True),
        ("error", ("error",), True),
    ],
)
def test_an_edge_follows_its_handle(handle: str | None, leaving: tuple[str, ...], follows: bool):
    assert Edge(id="e", source="a", target="b", source_handle=handle).leaves_by(leaving) is follows


def test_a_graph_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        log("a").label = "other"  # type: ignore[misc]  # the type checker sees it too


def test_what_a_later_release_wrote_is_read_without_it():
    assert Node.model_validate({"id": "a", "type": "X", "novelty": 1}) == Node(id="a", type="X")


@pytest.mark.parametrize("node_id", ["a", "a:1", "ä:b", ":", "a | b"])
def test_a_key_names_its_node_and_visit(node_id: str):
    assert split_key(step_key(node_id, 12)) == (node_id, 12)


@pytest.mark.parametrize("key", ["begin", "begin:", ":1", "a:x", "a:-1", "a:²", ""])
def test_the_engines_own_ids_are_no_steps(key: str):
    assert split_key(key) is None
