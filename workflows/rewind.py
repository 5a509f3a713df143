"""Going back in a run that is over: what a rerun keeps of it, and where it goes on (design §5)."""

import json
from collections import deque
from collections.abc import Iterable

from pydantic import JsonValue

from workflows import loops
from workflows.frames import Decided, Decision
from workflows.graph import Edge, Graph, Node, split_key, step_key
from workflows.messages import Ending, Heard, RunState
from workflows.nodes.logic_approval import event_type
from workflows.nodes.utility_end import End
from workflows.nodes.utility_set_variables import SetVariables
from workflows.run import Run, first_way
from workflows.walk import Walk

TAKEN, DEAD = "taken", "dead"
"""Handles of edges whose way was decided in the old run; no node type has them."""


class Unkept(Exception):
    """What ran before cannot be kept; says why and what to do."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.code = code
        self.message = message
        self.remedy = remedy


def rewind(old: Run, graph: Graph, *, trigger_id: str, node_id: str | None = None) -> RunState | None:
    """Give the state that a rerun on a graph starts with; None if nothing is kept.

    Steps that failed, were cancelled or had not ended run again, and so does `node_id` with all that follows
    it. Everything else is kept as it was. Raises Unkept.
    """
    if node_id is not None and node_id not in graph.by_id:
        raise Unkept(
            "unknown_node", f"There is no node `{node_id}`.", "Name a node of the version that runs."
        )
    if not old.state.walk.visits or node_id == trigger_id:
        return None
    is_same = _shape(graph) == _shape(old.graph)
    if node_id is None and is_same:
        return _fresh(old.state, again=())
    replay = _Replay(old, graph, following(graph, node_id) if node_id else frozenset())
    if loops.of(graph).made or loops.of(old.graph).made:
        return replay.undone(_outside_loops(graph, node_id, is_same=is_same))
    return replay.state(trigger_id, node_id)


def _outside_loops(graph: Graph, node_id: str | None, *, is_same: bool) -> str:
    """Expect a node that no loop runs: the turns of loops are kept as they went, or run again as a whole."""
    if node_id is None or not is_same:
        raise Unkept(
            "version_differs",
            "The workflow has loops, and what turns did cannot be carried into a graph drawn otherwise.",
            "Rerun on the same version, from the start, or on one where only settings of nodes differ.",
        )
    region_id = loops.of(graph).home(node_id)
    if region_id is not None:
        raise Unkept(
            "inside_loop",
            f"`{node_id}` runs in the loop of `{region_id}`.",
            "Rerun from a node before the loop, from the failure, or from the start.",
        )
    return node_id


def _shape(graph: Graph) -> tuple[frozenset[object], frozenset[object]]:
    """Say how a graph is drawn, whatever its nodes are told to do: a run's state means the same in both."""
    nodes = ((n.id, n.type, n.join, n.disabled, _turns(n)) for n in graph.nodes)
    edges = ((e.id, e.source, e.target, e.source_handle, json.dumps(e.condition)) for e in graph.edges)
    return frozenset(nodes), frozenset(edges)


def _turns(node: Node) -> tuple[object, ...] | None:
    """Say what of a loop its visits are numbered by."""
    return (node.loop.kind, node.loop.cap, node.loop.target) if node.loop else None


def following(graph: Graph, node_id: str) -> frozenset[str]:
    """Name a node and all that its edges lead to."""
    found, waiting = {node_id}, deque([node_id])
    while waiting:
        targets = {edge.target for edge in graph.outgoing[waiting.popleft()]} - found
        found |= targets
        waiting += sorted(targets)
    return frozenset(found)


class _Replay:
    """Walks a graph again with what the old run's steps gave, up to the steps that are to run."""

    def __init__(self, old: Run, graph: Graph, again: frozenset[str]) -> None:
        self._old = old
        self._graph = graph
        self._again = again
        self._kept = {name: output for name, output in old.state.outputs.items() if name not in again}
        for name in self._kept:
            self._expect_the_same(name)

    def state(self, trigger_id: str, node_id: str | None) -> RunState:
        """Replay; what stands still at the end is ready to run."""
        # Not a copy of the graph: that would carry over what the graph has worked out of its edges.
        went = Graph(nodes=self._graph.nodes, edges=tuple(map(self._as_it_went, self._graph.edges)))
        walk = Walk(went)
        ready, reached = list[str](), set[str]()
        waiting = deque(_decisions(walk.start(trigger_id)))
        while waiting:
            decision = waiting.popleft()
            node = self._graph.by_id[decision.node_id]
            if decision.ready and node.id in self._kept:
                reached.add(node.id)
                waiting += _decisions(walk.finish(node.id, (TAKEN,)))
            elif decision.ready and node.disabled:
                waiting += _decisions(walk.finish(node.id, first_way(node)))
            elif decision.ready:
                ready.append(decision.key)
        self._expect_reached(reached, ready, node_id)
        update = {"walk": walk.state, "ready": ready, "outputs": self._kept}
        return _fresh(self._old.state, again=self._again).model_copy(
            update={**update, "vars": self._vars(), "ending": self._ending()}
        )

    def undone(self, node_id: str) -> RunState:
        """Take back what follows from a node, on the same graph, and leave the rest as it stands."""
        state, again = _fresh(self._old.state, again=self._again), self._again
        walk = state.walk
        sources = {edge.id: edge.source for edge in self._graph.edges}
        walk.edges = {name: way for name, way in walk.edges.items() if sources.get(name) not in again}
        walk.visits = {name: visit for name, visit in walk.visits.items() if name not in again}
        walk.frames = {name: frame for name, frame in walk.frames.items() if _of(name, "/") not in again}
        walk.loops = {key: items for key, items in walk.loops.items() if _of(key, ":") not in again}
        state.items = {key: items for key, items in state.items.items() if _of(key, ":") not in again}
        state.item_outputs = {f: out for f, out in state.item_outputs.items() if _of(f, "/") not in again}
        state.ready = [key for key in state.ready if _of(key, ":") not in again]
        state.outputs, state.vars, state.ending = self._kept, self._vars(), self._ending()
        decisions = _decisions(Walk(self._graph, walk).reconsider(node_id))
        ready = [d.key for d in decisions if d.ready and not self._graph.by_id[d.node_id].disabled]
        self._expect_reached(set(self._kept), ready, node_id)
        state.ready += ready
        return state

    def _as_it_went(self, edge: Edge) -> Edge:
        """Write the way that was decided into an edge that leaves a kept node."""
        if edge.source not in self._kept or edge.target not in self._graph.by_id:
            return edge
        way = TAKEN if self._was_taken(edge) else DEAD
        return edge.model_copy(update={"source_handle": way, "condition": None})

    def _was_taken(self, edge: Edge) -> bool:
        decided = self._old.state.walk.edges
        for known in self._old.graph.outgoing[edge.source]:
            if known.id in decided and _leave_alike(known, edge):
                return decided[known.id] == "taken"
        only = self._only_way(self._old.graph.by_id[edge.source])
        if only is not None and edge.condition is None:
            return edge.source_handle in (None, only)
        raise Unkept(
            "version_differs",
            f"An edge from `{edge.source}` to `{edge.target}` leaves by a way that was not weighed then.",
            f"Rerun from `{edge.source}`, from the start, or on the same version.",
        )

    def _only_way(self, node: Node) -> str | None:
        """Name the way out that a node must have taken if it ended."""
        node_type = self._old.type_of(node)
        ways = [way for way in node_type.ways_out(node_type.Config(**node.config)) if way != "error"]
        return ways[0] if len(ways) == 1 and node.on_error == "fail" else None

    def _expect_the_same(self, name: str) -> None:
        was, now = self._old.graph.by_id[name], self._graph.by_id.get(name)
        if now is None or now.type != was.type:
            change = "is not in this version" if now is None else f"is a {now.type} in this version"
            raise Unkept(
                "version_differs",
                f"`{name}` ran as a {was.type} and {change}.",
                "Rerun on the same version, from the start, or from a node before it.",
            )

    def _expect_reached(self, reached: set[str], ready: list[str], node_id: str | None) -> None:
        lost = [name for name in self._kept if name not in reached]
        if lost:
            raise Unkept(
                "version_differs",
                f"`{lost[0]}` ran, and in this version nothing that is kept leads to it.",
                "Rerun on the same version, from the start, or from a node before it.",
            )
        if node_id is not None and step_key(node_id, 1) not in ready:
            raise Unkept(
                "node_not_reached",
                f"The earlier run did not get to `{node_id}`.",
                "Rerun from a node that ran, from the failure, or from the start.",
            )

    def _vars(self) -> dict[str, JsonValue]:
        """Take back what the nodes that run again had set."""
        set_again = {name for node in self._setters(self._again) for name in _names(self._old, node)}
        found = {name: value for name, value in self._old.state.vars.items() if name not in set_again}
        for node in self._setters(self._kept):
            assigned = self._kept[node.id]
            if isinstance(assigned, dict):
                found |= {name: value for name, value in assigned.items() if name in set_again}
        return found

    def _setters(self, among: Iterable[str]) -> list[Node]:
        """List nodes that set variables, in the order in which they were decided."""
        names = set(among)
        visited = [self._old.graph.by_id[name] for name in self._old.state.walk.visits if name in names]
        return [node for node in visited if node.type == SetVariables.name]

    def _ending(self) -> Ending | None:
        """Keep the result that the last kept end gave."""
        ends = [out for name, out in self._kept.items() if self._old.graph.by_id[name].type == End.name]
        told = [Ending.model_validate(end) for end in ends if isinstance(end, dict)]
        if self._old.state.ending in told:
            return self._old.state.ending
        return told[-1] if told else None


def _fresh(state: RunState, *, again: Iterable[str]) -> RunState:
    """Carry over what a rerun keeps; what only the old run's moment meant is gone.

    Waits and delays begin anew. What was heard still counts, from the old run's beginning on, but for
    decisions about the nodes that are asked again.
    """
    gone: dict[str, object] = {"lead": None, "sleeping": {}, "entered": {}, "held": {}, "retries": {}}
    inbox = [event for event in state.inbox if not _decides(event, set(again))]
    return state.model_copy(update={**gone, "paused": False, "inbox": inbox}, deep=True)


def _decides(event: Heard, nodes: set[str]) -> bool:
    """Tell whether an event is a decision about one of these nodes."""
    named = split_key(event.type.removeprefix(event_type("")))
    return named is not None and named[0] in nodes and event.type == event_type(step_key(*named))


def _decisions(decided: list[Decided]) -> list[Decision]:
    """Leave out the ends of loops."""
    return [each for each in decided if isinstance(each, Decision)]


def _of(name: str, mark: str) -> str:
    """Read the node's or the loop's id out of a key or a frame's name."""
    return name.rpartition(mark)[0]


def _leave_alike(one: Edge, other: Edge) -> bool:
    return (one.source_handle, one.condition) == (other.source_handle, other.condition)


def _names(old: Run, node: Node) -> list[str]:
    assigned = old.state.outputs.get(node.id)
    return list(assigned) if isinstance(assigned, dict) else []
