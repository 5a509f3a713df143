"""A second interpreter, written from the words of the join rule alone: slow, recursive, without state.

It knows no order of events. It asks of each node whether it runs, and for that asks the same of every node
before it. What it says must be what the walk does, in whatever order steps end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workflows.graph import Edge, Graph, Node


@dataclass(frozen=True)
class Script:
    """What each node would do, decided beforehand."""

    handles: Mapping[str, tuple[str, ...]]
    """The ways that a node leaves by."""
    holds: Mapping[str, bool] = field(default_factory=dict)
    """Whether the rule of an edge holds."""


@dataclass(frozen=True)
class Told:
    """Who ran, and who did not and why."""

    ran: frozenset[str]
    skipped: Mapping[str, str]


def interpret(graph: Graph, trigger_id: str, script: Script) -> Told:
    """Say what a run of an acyclic graph comes to."""
    teller = _Teller(graph, trigger_id, script)
    reasons = {node.id: teller.why_not(node) for node in graph.nodes}
    return Told(
        ran=frozenset(node_id for node_id, reason in reasons.items() if reason is None),
        skipped={node_id: reason for node_id, reason in reasons.items() if reason is not None},
    )


class _Teller:
    def __init__(self, graph: Graph, trigger_id: str, script: Script) -> None:
        self._nodes = {node.id: node for node in graph.nodes}
        self._edges = [e for e in graph.edges if e.source in self._nodes and e.target in self._nodes]
        self._trigger_id = trigger_id
        self._script = script
        self._known: dict[str, str | None] = {}

    def why_not(self, node: Node) -> str | None:
        """Say why a node does not run; None if it does."""
        if node.id not in self._known:
            self._known[node.id] = self._reason(node)
        return self._known[node.id]

    def _reason(self, node: Node) -> str | None:
        if node.id == self._trigger_id:
            return None
        arriving = [self._is_taken(edge) for edge in self._edges if edge.target == node.id]
        if not arriving:
            return "unreachable"
        if not any(arriving):
            return "branch_not_taken"
        if node.join == "all" and not all(arriving):
            return "join_incomplete"
        return "disabled" if node.disabled else None

    def _is_taken(self, edge: Edge) -> bool:
        source = self._nodes[edge.source]
        reason = self.why_not(source)
        if reason == "disabled":
            return edge.condition is None and _fits(edge, ("default",))
        if reason is not None or not _fits(edge, self._script.handles[source.id]):
            return False
        return edge.condition is None or self._script.holds[edge.id]


def _fits(edge: Edge, handles: tuple[str, ...]) -> bool:
    if edge.source_handle is None:
        return bool(set(handles) - {"error"})
    return edge.source_handle in handles
