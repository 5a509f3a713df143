"""The sans-I/O walk: outcomes in; ready and skipped nodes out. No clock, no Temporal, no asyncio.

The join rule is dead-path elimination (nodes.md): a node is decided once all its incoming edges are
decided; one that can no longer run is skipped, and that decides its own outgoing edges in turn.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from pydantic import BaseModel, Field

from workflows.graph import Edge, Graph, step_key

EdgeState = Literal["taken", "dead"]


class Decision(NamedTuple):
    """What the walk says of one node: run it, or skip it and why."""

    key: str
    node_id: str
    ready: bool
    reason: str | None = None


class WalkState(BaseModel):
    """Plain data, so that continue-as-new and the mirror can carry a walk on."""

    edges: dict[str, EdgeState] = Field(default_factory=dict)
    visits: dict[str, int] = Field(default_factory=dict)
    """How often each decided node was visited; a node not named here is still open."""


class Walk:
    """Walks one graph; every method returns the decisions it caused, in a stable order."""

    def __init__(self, graph: Graph, state: WalkState | None = None) -> None:
        self.graph = graph
        self.state = state or WalkState()
        # Counted, not looked up: a join of thousands of branches is asked once for each of them.
        self._undecided = {node_id: len(edges) for node_id, edges in graph.incoming.items()}
        self._taken = dict.fromkeys(graph.incoming, 0)
        for edge in graph.edges:
            if edge.id in self.state.edges:
                self._count(edge)

    def start(self, trigger_id: str) -> list[Decision]:
        """Enter the graph at its trigger and skip what no path leads to."""
        decisions = [self._visit(trigger_id, ready=True)]
        loose = [n.id for n in self.graph.nodes if n.id != trigger_id and not self.graph.incoming[n.id]]
        for node_id in loose:
            decisions += self._skip(node_id, "unreachable")
        return decisions

    def finish(
        self, node_id: str, handles: tuple[str, ...], conditions: Mapping[str, bool] | None = None
    ) -> list[Decision]:
        """Leave a node by these handles; an edge with a condition is taken only if it holds."""
        holds = conditions or {}
        return self._settle(
            (edge, edge.leaves_by(handles) and (edge.condition is None or holds.get(edge.id, False)))
            for edge in self.graph.outgoing[node_id]
        )

    def taken_into(self, node_id: str) -> list[Edge]:
        """Return the edges over which a node was reached, in the order they were drawn."""
        return [e for e in self.graph.incoming[node_id] if self.state.edges.get(e.id) == "taken"]

    def _visit(self, node_id: str, *, ready: bool, reason: str | None = None) -> Decision:
        visit = self.state.visits.get(node_id, 0) + 1
        self.state.visits[node_id] = visit
        return Decision(step_key(node_id, visit), node_id, ready, reason)

    def _skip(self, node_id: str, reason: str) -> list[Decision]:
        dead = ((edge, False) for edge in self.graph.outgoing[node_id])
        return [self._visit(node_id, ready=False, reason=reason), *self._settle(dead)]

    def _settle(self, edges: Iterable[tuple[Edge, bool]]) -> list[Decision]:
        """Decide these edges and, breadth first, everything that follows from them."""
        decisions: list[Decision] = []
        waiting = deque(edges)
        while waiting:
            edge, taken = waiting.popleft()
            if edge.id in self.state.edges:
                continue
            self.state.edges[edge.id] = "taken" if taken else "dead"
            self._count(edge)
            decision = self._join(edge.target)
            if decision is None:
                continue
            decisions.append(decision)
            if not decision.ready:
                waiting.extend((out, False) for out in self.graph.outgoing[decision.node_id])
        return decisions

    def _join(self, node_id: str) -> Decision | None:
        """Apply the node's join mode; None while it is undecided or was decided before."""
        node = self.graph.by_id[node_id]
        if node_id in self.state.visits:
            return None
        taken = self._taken[node_id]
        if node.join == "first" and taken:
            return self._visit(node_id, ready=True)
        if self._undecided[node_id]:
            return None
        if not taken:
            return self._visit(node_id, ready=False, reason="branch_not_taken")
        if node.join == "all" and taken < len(self.graph.incoming[node_id]):
            return self._visit(node_id, ready=False, reason="join_incomplete")
        return self._visit(node_id, ready=True)

    def _count(self, edge: Edge) -> None:
        self._undecided[edge.target] -= 1
        self._taken[edge.target] += self.state.edges[edge.id] == "taken"
