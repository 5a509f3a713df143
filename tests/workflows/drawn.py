"""Graphs for tests: drawn by hand in a line, or at random by hypothesis."""

from random import Random
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from tests.workflows.naive import Script
from workflows.graph import Edge, Graph, Join, Node
from workflows.messages import ExecutionInput

NOBODY = UUID(int=0)
HANDLES = (None, "default", "a", "b", "c", "error")
LEAVINGS = (("default",), ("a",), ("b",), ("c",), ("error",), ("a", "b"), ())
JOINS: tuple[Join, ...] = ("any_live", "all", "first")


def log(node_id: str, **values: Any) -> Node:
    """Draw a node that needs an activity."""
    return Node(
        id=node_id, **{"type": "UTILITY_LOG", "save_as": node_id, "config": {"message": ""}, **values}
    )


def merge(node_id: str, join: Join = "any_live", **config: Any) -> Node:
    """Draw a node that the run passes by itself."""
    return Node(id=node_id, type="LOGIC_MERGE", join=join, save_as=node_id, config={"mode": join, **config})


def trigger(node_id: str = "start") -> Node:
    """Draw the trigger."""
    return Node(id=node_id, type="TRIGGER_MANUAL", save_as=node_id)


def edges(*pairs: str) -> tuple[Edge, ...]:
    """Draw edges written `source>target` or `source.handle>target`."""
    return tuple(_edge(pair) for pair in pairs)


def _edge(pair: str) -> Edge:
    source, target = pair.split(">")
    name, _, handle = source.partition(".")
    return Edge(id=pair, source=name, target=target, source_handle=handle or None)


def execution(graph: Graph, **values: Any) -> ExecutionInput:
    """Start a graph by its node `start`."""
    given = {"version": 1, "trigger_type": "MANUAL", "trigger_node_id": "start", **values}
    return ExecutionInput(workspace_id=NOBODY, workflow_id=NOBODY, execution_id=NOBODY, graph=graph, **given)


@st.composite
def scripted_graphs(draw: st.DrawFn, *, size: int = 60) -> tuple[Graph, Script]:
    """Draw an acyclic graph with a script: forks, joins of each mode, disabled nodes, rules, loose ends."""
    count = draw(st.integers(1, size))
    # Even dice: hypothesis's own love extremes, and then next to nothing of a large graph ever runs.
    dice = draw(st.randoms(use_true_random=True))
    nodes = (trigger(), *(_random_node(dice, number) for number in range(1, count)))
    drawn = [edge for number in range(1, count) for edge in _random_edges(dice, number)]
    names = [node.id for node in nodes]
    graph = Graph(
        nodes=tuple(nodes),
        edges=tuple(
            Edge(
                id=f"e{number}",
                source=names[source],
                # Now and then an edge leads to a node that was deleted.
                target=names[target] if dice.random() < 0.97 else "gone",
                source_handle=dice.choices(HANDLES, (14, 4, 2, 2, 1, 1))[0],
                condition={"field": "x", "operator": "exists"} if dice.random() < 0.1 else None,
            )
            for number, (source, target) in enumerate(drawn)
        ),
    )
    return graph, _script(dice, graph)


def _random_node(dice: Random, number: int) -> Node:
    join = dice.choices(JOINS, (4, 1, 2))[0]
    if dice.random() < 0.2:
        return merge(f"n{number}", join)
    return log(f"n{number}", join=join, disabled=dice.random() < 0.1)


def _random_edges(dice: Random, target: int) -> list[tuple[int, int]]:
    """Choose what leads to a node: near ones for depth, any for breadth, now and then nothing."""
    how_many = dice.choices((0, 1, 2, 3, 5), (1, 12, 10, 4, 1))[0]
    near = [max(0, target - dice.randint(1, 4)) for _ in range(how_many)]
    return [(dice.choice((source, source, dice.randrange(target))), target) for source in near]


def _script(dice: Random, graph: Graph) -> Script:
    # Most go on, or most of a graph would never be reached.
    weights = (12, 2, 2, 2, 1, 3, 1)
    handles = {node.id: dice.choices(LEAVINGS, weights)[0] for node in graph.nodes}
    passing = {node.id: ("default",) for node in graph.nodes if node.type != "UTILITY_LOG"}
    holds = {edge.id: dice.random() < 0.7 for edge in graph.edges if edge.condition is not None}
    return Script(handles={**handles, **passing}, holds=holds)
