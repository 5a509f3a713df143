"""A draft looked up: each node with its type and config, and the connections that a run would follow."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from workflows import configs, nodes
from workflows.graph import Loop
from workflows.loops import Loops
from workflows.nodetype import NodeConfig, NodeType
from workflows.problems import Problem, pointer
from workflows.reactflow import Draft, DraftEdge, DraftNode

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Spot(ABC):
    """A node or an edge, by its place in the document."""

    number: int

    @property
    @abstractmethod
    def home(self) -> tuple[str, str]:
        """Name the list it stands in, and the node that its problems are told of."""

    def problem(
        self, code: str, message: str, remedy: str, *path: str | int, severity: Severity = "error"
    ) -> Problem:
        """Describe what is wrong here."""
        collection, node_id = self.home
        return Problem(
            code=code,
            message=message,
            remedy=remedy,
            severity=severity,
            pointer=pointer(collection, self.number, *path),
            node_id=node_id,
            field=_field(path),
        )


@dataclass(frozen=True)
class Placed(Spot):
    """A node, where it stands, and what its type makes of it."""

    node: DraftNode
    type: type[NodeType] | None
    config: NodeConfig | None
    flaws: tuple[configs.Flaw, ...]
    """What is wrong with its config."""

    @property
    def home(self) -> tuple[str, str]:
        """Name the nodes, and this one."""
        return "nodes", self.id

    @property
    def id(self) -> str:
        """Return React Flow's id."""
        return self.node.id

    @property
    def is_trigger(self) -> bool:
        """Tell whether runs start here."""
        return self.type is not None and self.type.kind() == "trigger"

    @property
    def runs(self) -> bool:
        """Tell whether a run can visit it: notes are for people."""
        return self.type is None or not self.type.never_runs

    @property
    def asks(self) -> bool:
        """Tell whether it waits for decisions of people."""
        return self.type is not None and self.type.asks and not (self.config and self.config.disabled)

    @property
    def save_as(self) -> str:
        """Name its output under `steps.`."""
        return (self.config.save_as if self.config else None) or self.id

    @property
    def ways_out(self) -> tuple[str, ...] | None:
        """Return its handles; None where its type or config leaves them open."""
        if self.type is None or self.config is None:
            return None
        return self.type.ways_out(self.config)


@dataclass(frozen=True)
class Line(Spot):
    """An edge."""

    edge: DraftEdge

    @property
    def home(self) -> tuple[str, str]:
        """Name the edges, and the node that this one leaves."""
        return "edges", self.edge.source


def _field(path: tuple[str | int, ...]) -> str | None:
    """Name a field as its author does: what is inside `data.config` by its path there."""
    inside = path[2:] if path[:2] == ("data", "config") else path[-1:]
    return ".".join(map(str, inside)) or (str(path[-1]) if path else None)


class Drawing:
    """One draft, read once for all that is asked of it."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.placed = tuple(_place(number, node) for number, node in enumerate(draft.nodes))

    @cached_property
    def by_id(self) -> Mapping[str, Placed]:
        """Nodes by their React Flow id."""
        return {placed.id: placed for placed in self.placed}

    @cached_property
    def triggers(self) -> tuple[Placed, ...]:
        """The nodes at which runs start."""
        return tuple(placed for placed in self.placed if placed.is_trigger)

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """The edges that a run follows: enabled, and between two nodes that run."""
        ends = {placed.id for placed in self.placed if placed.runs}
        return tuple(
            Line(number, edge)
            for number, edge in enumerate(self.draft.edges)
            if edge.is_enabled and edge.source in ends and edge.target in ends
        )

    @cached_property
    def loops(self) -> Loops:
        """The loops that its nodes make."""
        return Loops({placed.id: _loop(placed) for placed in self.placed}, [line.edge for line in self.lines])

    @cached_property
    def onward(self) -> tuple[Line, ...]:
        """The edges that lead on; those that lead back to where a loop begins are left out."""
        return tuple(line for line in self.lines if line.edge.id not in self.loops.returning)

    @cached_property
    def outgoing(self) -> Mapping[str, tuple[Line, ...]]:
        """Connections by the node they leave."""
        return self._grouped("source")

    @cached_property
    def incoming(self) -> Mapping[str, tuple[Line, ...]]:
        """Connections by the node they reach."""
        return self._grouped("target")

    @cached_property
    def reached(self) -> frozenset[str]:
        """Ids of the nodes that some path leads to from a trigger."""
        seen = {trigger.id for trigger in self.triggers}
        waiting = deque(seen)
        while waiting:
            for line in self.outgoing[waiting.popleft()]:
                if line.edge.target not in seen:
                    seen.add(line.edge.target)
                    waiting.append(line.edge.target)
        return frozenset(seen)

    def approvals_after(self, node_id: str) -> tuple[str, ...]:
        """Name the approvals that come next after a node: those that the fewest connections lead to.

        In another loop, or in none, a step has another visit: a link would decide about the wrong turn.
        """
        home = self.loops.home(node_id)
        seen, level = {node_id}, [node_id]
        while level:
            ahead = dict.fromkeys(line.edge.target for one in level for line in self.outgoing[one])
            level = [one for one in ahead if one not in seen]
            seen.update(level)
            if found := tuple(one for one in level if self.by_id[one].asks and self.loops.home(one) == home):
                return found
        return ()

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Node ids, each after all that lead to it; those on and behind a cycle are left out."""
        open_lines = {node_id: len(lines) for node_id, lines in self.incoming.items()}
        ready = deque(node_id for node_id, count in open_lines.items() if count == 0)
        ordered: list[str] = []
        while ready:
            ordered.append(ready.popleft())
            for line in self.outgoing[ordered[-1]]:
                open_lines[line.edge.target] -= 1
                if open_lines[line.edge.target] == 0:
                    ready.append(line.edge.target)
        return tuple(ordered)

    def _grouped(self, end: str) -> dict[str, tuple[Line, ...]]:
        groups: dict[str, list[Line]] = {placed.id: [] for placed in self.placed}
        for line in self.onward:
            groups[getattr(line.edge, end)].append(line)
        return {node_id: tuple(lines) for node_id, lines in groups.items()}


def _loop(placed: Placed) -> Loop | None:
    return placed.type.loop(placed.config) if placed.type and placed.config and placed.runs else None


def _place(number: int, node: DraftNode) -> Placed:
    node_type = nodes.types().get(node.type)
    if node_type is None:
        return Placed(number, node, None, None, ())
    config, flaws = configs.read(node_type, node.config)
    return Placed(number, node, node_type, config, tuple(flaws))
