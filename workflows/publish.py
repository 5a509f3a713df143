"""From the draft to the graph that runs: what a run needs and no more, in an order of its own."""

from typing import Any

from workflows import conditions, nodes, templates
from workflows.drawing import Drawing, Line, Placed
from workflows.graph import Edge, Graph, Node
from workflows.nodetype import NodeConfig, marked_values
from workflows.reactflow import Draft, DraftEdge, DraftNode

DECIDING = frozenset({"links.approve", "links.reject"})


class NotPublishable(ValueError):
    """The draft has errors that validation tells; nothing can be compiled from it."""


def compile(draft: Draft) -> Graph:  # noqa: A001 - it is what publishing does; call it as publish.compile
    """Make the immutable graph of a draft that validation passed; equal content gives equal graphs.

    Notes, disabled edges and edges that end nowhere are left out; positions and unknown keys too.
    """
    return graph_of(Drawing(draft))


def graph_of(drawing: Drawing) -> Graph:
    """Make the graph of a drawing."""
    drawn = (_node(placed, drawing) for placed in drawing.placed if placed.runs)
    lines = (_edge(line) for line in drawing.lines)
    return Graph(
        nodes=tuple(sorted(drawn, key=lambda node: node.id)),
        edges=tuple(sorted(lines, key=lambda edge: edge.id)),
    )


def draft_of(graph: Graph) -> Draft:
    """Draw a graph again as far as it tells: positions, notes and what was disabled are lost."""
    return Draft(
        nodes=tuple(
            DraftNode(id=n.id, type=n.type, label=n.label or None, config=n.config) for n in graph.nodes
        ),
        edges=tuple(
            DraftEdge(
                id=e.id,
                source=e.source,
                target=e.target,
                source_handle=e.source_handle,
                condition=e.condition,
            )
            for e in graph.edges
        ),
    )


def awaited(graph: Graph) -> tuple[str, ...]:
    """Name the types of lead events that a run of this graph may wait for."""
    found: set[str] = set()
    for node in graph.nodes:
        node_type = nodes.types()[node.type]
        if not node.disabled:
            found.update(node_type.awaits(node_type.Config(**node.config)))
    return tuple(sorted(found))


def inputs(graph: Graph) -> dict[str, Any]:
    """Give what the steps of each node record as their input, but for what templates make of it."""
    found = {}
    for node in graph.nodes:
        node_type = nodes.types()[node.type]
        if recorded := node_type.recorded(node_type.Config(**node.config)):
            found[node.id] = recorded
    return found


def _node(placed: Placed, drawing: Drawing) -> Node:
    if placed.type is None or placed.config is None:
        raise NotPublishable(placed.id)
    config = placed.config
    reads = _config_reads(type(config), placed) | _rule_reads(drawing.outgoing[placed.id])
    asked = drawing.approvals_after(placed.id) if reads & DECIDING else ()
    return Node(
        id=placed.id,
        type=placed.type.name,
        label=placed.node.label or "",
        config=placed.node.config,
        join=placed.type.join(config),
        disabled=config.disabled,
        on_error=config.on_error,
        save_as=placed.save_as,
        loop=placed.type.loop(config),
        reads=tuple(sorted(reads)),
        approval=asked[0] if asked else None,
    )


def _config_reads(config: type[NodeConfig], placed: Placed) -> set[str]:
    paths: set[str] = set()
    for _, marker, value in marked_values(config, placed.node.config):
        paths |= conditions.reads(value) if marker.kind == "rule" else templates.reads(value)
    return paths


def _rule_reads(leaving: tuple[Line, ...]) -> set[str]:
    rules = (line.edge.condition for line in leaving if line.edge.condition is not None)
    return {path for rule in rules for path in conditions.reads(rule)}


def _edge(line: Line) -> Edge:
    edge = line.edge
    return Edge(
        id=edge.id,
        source=edge.source,
        target=edge.target,
        source_handle=edge.source_handle,
        condition=edge.condition,
    )
