"""Short ways to write React Flow graphs in tests."""

from itertools import pairwise
from typing import Any


def node(id_: str, type_: str, label: str = "", **config: Any) -> dict[str, Any]:
    """Write a node."""
    return {
        "id": id_,
        "type": type_,
        "position": {"x": 0, "y": 0},
        "data": {"label": label, "config": config},
    }


def edge(source: str, target: str, handle: str | None = None, condition: Any = None) -> dict[str, Any]:
    """Write an edge."""
    data = {} if condition is None else {"condition": condition}
    return {
        "id": f"{source}>{target}>{handle}",
        "source": source,
        "target": target,
        "sourceHandle": handle,
        "data": data,
    }


def graph(*parts: dict[str, Any]) -> dict[str, Any]:
    """Put nodes and edges together."""
    return {
        "nodes": [part for part in parts if "type" in part],
        "edges": [part for part in parts if "source" in part],
        "viewport": {"x": 0, "y": 0, "zoom": 1},
    }


def chain(*nodes: dict[str, Any]) -> dict[str, Any]:
    """Connect nodes one after the other."""
    pairs = pairwise(nodes)
    return graph(*nodes, *(edge(one["id"], other["id"]) for one, other in pairs))
