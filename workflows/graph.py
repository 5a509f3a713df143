"""The published graph: an immutable snapshot that a run carries from its first event to its last."""

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Join = Literal["any_live", "all", "first"]
OnError = Literal["fail", "continue", "branch"]
SUMMARY_CAP = 120
"""Characters of a summary that the Temporal Web UI shows."""


class Frozen(BaseModel):
    """A value that travels: it never changes, a change makes a copy; an error about it does not show it."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Loop(Frozen):
    """What makes a node the head or the tail of a loop."""

    kind: Literal["each", "jump"]
    """`each` runs what leaves by its handle `each` once an item; `jump` goes back to `target`."""
    cap: int
    """How often its nodes run at most for each time that the loop is reached."""
    target: str = ""
    at_once: int = 1
    """Items under way side by side."""
    fails: bool = True
    """A failed item fails the loop; otherwise it is counted and the loop goes on."""


class Node(Frozen):
    """One node of the graph; `id` is React Flow's (ERD §5)."""

    id: str
    type: str
    label: str = ""
    config: dict[str, Any] = Field(default_factory=dict)
    join: Join = "any_live"
    disabled: bool = False
    on_error: OnError = "fail"
    save_as: str = ""
    """The name its output takes under `steps.`."""
    reads: tuple[str, ...] = ()
    """Dotted paths of the scope that its templates and conditions name, worked out at publish."""
    loop: Loop | None = None
    approval: str | None = None
    """The node to which `links.approve` and `links.reject` of its templates lead."""


class Edge(Frozen):
    """One connection between two nodes, by React Flow's ids (ERD §6)."""

    id: str
    source: str
    target: str
    source_handle: str | None = None
    condition: dict[str, Any] | None = None

    def leaves_by(self, handles: Iterable[str]) -> bool:
        """Tell whether a node that chose these handles goes on over this edge, conditions aside."""
        if self.source_handle is None:
            return any(handle != "error" for handle in handles)
        return self.source_handle in handles


class Graph(Frozen):
    """The nodes and the enabled edges of one version; an edge to a missing node is ignored (design §8)."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @cached_property
    def by_id(self) -> Mapping[str, Node]:
        """Nodes by their React Flow id, in the order they were drawn."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def outgoing(self) -> Mapping[str, tuple[Edge, ...]]:
        """Edges by the node they leave."""
        return self._grouped("source")

    @cached_property
    def incoming(self) -> Mapping[str, tuple[Edge, ...]]:
        """Edges by the node they reach."""
        return self._grouped("target")

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON: equal graphs have equal versions."""
        # PostgreSQL's JSON orders keys in its own way, so their order must not count.
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return sha256(content.encode()).hexdigest()

    def _grouped(self, end: str) -> dict[str, tuple[Edge, ...]]:
        groups: dict[str, list[Edge]] = {node.id: [] for node in self.nodes}
        for edge in self.edges:
            if edge.source in groups and edge.target in groups:
                groups[getattr(edge, end)].append(edge)
        return {node_id: tuple(edges) for node_id, edges in groups.items()}


def step_key(node_id: str, visit: int) -> str:
    """Name one visit of one node; it is the activity id and begins a timer's summary (design §5)."""
    return f"{node_id}:{visit}"


def split_key(key: str) -> tuple[str, int] | None:
    """Read a step's key; None for the engine's own ids, which never end in a number."""
    node_id, _, visit = key.rpartition(":")
    return (node_id, int(visit)) if node_id and visit.isdecimal() else None


def summary(key: str, node: Node) -> str:
    """Name a command so that the Temporal Web UI reads like the graph (design §5)."""
    return f"{key} | {one_line(node.label or node.type)}"


def one_line(text: str, *, cap: int = SUMMARY_CAP) -> str:
    """Cut a name to what the Web UI shows of it: as Markdown, and none of it shall be a link."""
    line = " ".join(text.split()).replace("](", "] (")
    return line if len(line) <= cap else f"{line[: cap - 1]}…"
