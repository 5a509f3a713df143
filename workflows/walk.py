"""The sans-I/O walk: outcomes in; ready and skipped nodes out. No clock, no Temporal, no asyncio.

The join rule is dead-path elimination (nodes.md): a node is decided once all its incoming edges are
decided; one that can no longer run is skipped, and that decides its own outgoing edges in turn.
What a loop runs is decided by the same rule, once for each turn.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from workflows import loops
from workflows.frames import ROOT, Counts, Decided, Decision, EdgeState, Frame, Items, LoopOver, WalkState
from workflows.graph import Edge, Graph, step_key
from workflows.loops import EACH, EXHAUSTED, JUMP, Region

NOWHERE: tuple[str | None, int] = (None, 0)
"""The place of an edge that decides nothing, or not yet."""
BREATH = 1_000
"""Decisions in one go after which no more items begin: a loop whose steps need no activity would else take
longer than the two seconds that a workflow task has."""
_Leaving = tuple[Edge, bool, int]
"""An edge, whether it is taken, and its source's visit."""


class Walk:
    """Walks one graph; every method returns the decisions it caused, in a stable order."""

    def __init__(self, graph: Graph, state: WalkState | None = None) -> None:
        self.graph = graph
        self.state = state or WalkState()
        self.loops = loops.of(graph)
        heads = {region.id for region in self.loops.regions.values() if region.loop.kind == "each"}
        self._entering = {e.id for h in heads for e in graph.outgoing[h] if e.source_handle == EACH}
        self._arriving = self._by_place()
        self._counts: dict[str, Counts] = {}
        self._breath = self.state.decided + BREATH

    def start(self, trigger_id: str) -> list[Decided]:
        """Enter the graph at its trigger and skip what no path leads to."""
        decisions: list[Decided] = [self._visit(trigger_id, 1, ready=True)]
        for node_id, edges in self._arriving[ROOT].items():
            if not edges and node_id != trigger_id:
                skipped = self._enter(node_id, 1, ready=False, reason="unreachable")
                decisions += [skipped, *self._settle(self._dead_ends(skipped))]
        return decisions

    def finish(
        self,
        node_id: str,
        handles: tuple[str, ...],
        conditions: Mapping[str, bool] | None = None,
        *,
        visit: int = 1,
    ) -> list[Decided]:
        """Leave a node by these handles; an edge with a condition is taken only if it holds."""
        if self._frame(self.loops.home(node_id), visit) is None:
            return []
        decisions: list[Decided] = list(self._leave(node_id, handles, conditions or {}, visit))
        return decisions + self._ended(node_id, visit)

    def repeat(self, node_id: str, visit: int, count: int) -> list[Decided]:
        """Begin to run what a loop's head leads to, once for each of its items."""
        self.state.loops[step_key(node_id, visit)] = Items(count=count)
        return self._advance(node_id, visit)

    def breathe(self) -> None:
        """Begin to count anew how many decisions are made in one go."""
        self._breath = self.state.decided + BREATH

    def halted(self) -> list[str]:
        """Name the loops that are out of breath: they wait for `go_on`, and for nothing else."""
        found = (
            (key, items, self.loops.regions.get(key.rpartition(":")[0]))
            for key, items in self.state.loops.items()
        )
        return [
            key
            for key, items, region in found
            if region and items.begun < items.count and items.begun - items.ended < region.loop.at_once
        ]

    def go_on(self, node_id: str, visit: int) -> list[Decided]:
        """Begin more items of a loop that was out of breath."""
        return self._advance(node_id, visit)

    def fail_item(self, region: Region, visit: int) -> list[Decided]:
        """Give an item up, whatever of it is under way, and go on with the next."""
        head_visit = region.visit_around(visit)
        items = self.state.loops[step_key(region.id, head_visit)]
        items.failed += 1
        self._end_item(region, visit, items)
        return self._advance(region.id, head_visit)

    def give_up(self, region: Region, head_visit: int) -> None:
        """Give a loop up with all its items; its head is still to be finished."""
        del self.state.loops[step_key(region.id, head_visit)]
        for name in list(self.state.frames):
            region_id, visit = _parts(name)
            if region_id == region.id and region.visit_around(visit) == head_visit:
                self._drop(region, visit)

    def reconsider(self, node_id: str) -> list[Decided]:
        """Decide a node that no loop runs again, by the edges that lead there."""
        decision = self._join(node_id, 1, self.state, self._counts_of(None, 1, self.state))
        return [decision] if decision else []

    def is_live(self, node_id: str, visit: int) -> bool:
        """Tell whether the turn that a step belongs to goes on."""
        return self._frame(self.loops.home(node_id), visit) is not None

    def items_around(self, node_id: str, visit: int) -> Iterator[tuple[Region, int]]:
        """Yield the loops over items that a step runs in, the innermost first, with its visit there."""
        for region in self.loops.around(node_id):
            if region.loop.kind == "each":
                yield region, visit
            visit = region.visit_around(visit)

    def taken_into(self, node_id: str, visit: int = 1) -> list[Edge]:
        """Return the edges over which a node was reached, in the order they were drawn."""
        for region in self.loops.entered(node_id):
            visit = region.visit_around(visit)
        place = self.loops.outside(node_id)
        frame = self._frame(place, visit)
        edges = self._arriving[place or ROOT].get(node_id, ())
        return [edge for edge in edges if frame is not None and frame.edges.get(edge.id) == "taken"]

    # ── leaving nodes and reaching others

    def _leave(
        self, node_id: str, handles: tuple[str, ...], holds: Mapping[str, bool], visit: int
    ) -> list[Decision]:
        region = self._jump_of(node_id)
        if region is not None and JUMP in handles:
            if region.turn(visit) + 1 < region.loop.cap:
                return [self._jump(region, visit)]
            handles = (EXHAUSTED,)
        leaving = [
            (edge, edge.leaves_by(handles) and (edge.condition is None or holds.get(edge.id, False)), visit)
            for edge in self.graph.outgoing[node_id]
        ]
        return self._settle([*leaving, *self._last_turn(node_id, visit)])

    def _settle(self, leaving: Iterable[_Leaving]) -> list[Decision]:
        """Decide these edges and, breadth first, everything that follows from them."""
        decisions: list[Decision] = []
        waiting = deque(leaving)
        while waiting:
            edge, taken, visit = waiting.popleft()
            decision = self._decide(edge, taken, visit)
            if decision is None:
                continue
            decisions.append(decision)
            if not decision.ready:
                waiting.extend(self._dead_ends(decision))
        return decisions

    def _dead_ends(self, skipped: Decision) -> list[_Leaving]:
        node_id, visit = skipped.node_id, int(skipped.key.rpartition(":")[2])
        dead = [(edge, False, visit) for edge in self.graph.outgoing[node_id]]
        return [*dead, *self._last_turn(node_id, visit)]

    def _decide(self, edge: Edge, taken: bool, visit: int) -> Decision | None:
        """Decide one edge where its target joins; None if nothing comes of it yet."""
        place, visit = self._place(edge, taken, visit)
        frame = self._frame(place, visit)
        if frame is None or edge.id in frame.edges:
            return None
        state: EdgeState = "taken" if taken else "dead"
        counts = self._counts_of(place, visit, frame)
        counts.count(edge, state)
        frame.edges[edge.id] = state
        return self._join(edge.target, visit, frame, counts)

    def _place(self, edge: Edge, taken: bool, visit: int) -> tuple[str | None, int]:
        """Find the frame in which an edge is decided: its target's, which may be around its source's."""
        if edge.id in self._entering:
            # Only the begin of an item takes such an edge, and names the item's own visit.
            return (edge.source, visit) if taken else NOWHERE
        if edge.id in self.loops.returning:
            return NOWHERE
        goal, at = self.loops.outside(edge.target), visit
        for region in self.loops.around(edge.source):
            if region.id == goal:
                break
            frame = self._frame(region.id, at)
            if frame is not None and not taken and not frame.is_last:
                frame.withheld[edge.id] = visit
                return NOWHERE
            at = region.visit_around(at)
        return goal, at

    def _join(self, node_id: str, visit: int, frame: Frame, counts: Counts) -> Decision | None:
        """Apply the node's join mode; None while it is undecided or was decided before."""
        node = self.graph.by_id[node_id]
        if node_id in frame.visits:
            return None
        taken = counts.taken[node_id]
        if node.join == "first" and taken:
            return self._enter(node_id, visit, ready=True)
        if counts.undecided[node_id]:
            return None
        if not taken:
            return self._enter(node_id, visit, ready=False, reason="branch_not_taken")
        if node.join == "all" and taken < len(self._arriving[self.loops.outside(node_id) or ROOT][node_id]):
            return self._enter(node_id, visit, ready=False, reason="join_incomplete")
        return self._enter(node_id, visit, ready=True)

    def _enter(self, node_id: str, visit: int, *, ready: bool, reason: str | None = None) -> Decision:
        """Visit a node, and begin the first turn of each loop that is entered through it."""
        frame = self._frame(self.loops.outside(node_id), visit)
        if frame is not None:
            frame.visits[node_id] = visit
        for region in reversed(list(self.loops.entered(node_id))):
            visit = region.first_visit(visit)
            self.state.frames[region.frame(visit)] = Frame()
        return self._visit(node_id, visit, ready=ready, reason=reason)

    def _visit(self, node_id: str, visit: int, *, ready: bool, reason: str | None = None) -> Decision:
        key = step_key(node_id, visit)
        frame = self._frame(self.loops.home(node_id), visit)
        if frame is not None:
            frame.visits[node_id] = visit
        self.state.decided += 1
        for region, at in self.items_around(node_id, visit) if ready else ():
            self.state.frames[region.frame(at)].open.append(key)
        return Decision(key, node_id, ready, reason)

    # ── loops

    def _jump_of(self, node_id: str) -> Region | None:
        region = self.loops.regions.get(node_id)
        return region if region is not None and region.loop.kind == "jump" else None

    def _jump(self, region: Region, visit: int) -> Decision:
        """Leave a turn with whatever of it is under way, and begin the next at the loop's entry."""
        target = region.loop.target
        self._drop(region, visit)
        inner = [each for each in self.loops.entered(target) if each.nodes < region.nodes]
        visit += 1
        self.state.frames[region.frame(visit)] = Frame()
        for each in reversed(inner):
            visit = each.first_visit(visit)
            self.state.frames[each.frame(visit)] = Frame()
        return self._visit(target, visit, ready=True)

    def _last_turn(self, node_id: str, visit: int) -> list[_Leaving]:
        """Let the edges out of a loop die that no turn has taken, once its tail does not jump."""
        region = self._jump_of(node_id)
        frame = self._frame(region.id, visit) if region else None
        if frame is None:
            return []
        frame.is_last = True
        by_id = {edge.id: edge for edge in self.graph.edges if edge.id in frame.withheld}
        return [(by_id[edge_id], False, source_visit) for edge_id, source_visit in frame.withheld.items()]

    def _advance(self, head: str, head_visit: int) -> list[Decided]:
        """Begin as many items as may be under way; tell when all are over."""
        key = step_key(head, head_visit)
        region, items = self.loops.regions.get(head), self.state.loops[key]
        decisions: list[Decided] = []
        while region and items.begun < items.count and items.begun - items.ended < region.loop.at_once:
            if self.state.decided > self._breath:
                break
            visit = region.first_visit(head_visit) + items.begun
            items.begun += 1
            frame = self.state.frames[region.frame(visit)] = Frame()
            decisions += self._settle([(edge, True, visit) for edge in self._entries(head)])
            if not frame.open:
                self._end_item(region, visit, items)
        if region is None or items.ended == items.count:
            del self.state.loops[key]
            decisions.append(LoopOver(key, head, items.count, items.failed))
        return decisions

    def _entries(self, head: str) -> list[Edge]:
        return [edge for edge in self.graph.outgoing[head] if edge.id in self._entering]

    def _ended(self, node_id: str, visit: int) -> list[Decided]:
        """Note that a step has ended; with the last one of an item the item has."""
        key = step_key(node_id, visit)
        for region, at in self.items_around(node_id, visit):
            frame = self._frame(region.id, at)
            if frame is not None and key in frame.open:
                frame.open.remove(key)
        innermost = next(self.items_around(node_id, visit), None)
        if innermost is None:
            return []
        region, at = innermost
        frame = self._frame(region.id, at)
        if frame is None or frame.open:
            return []
        head_visit = region.visit_around(at)
        self._end_item(region, at, self.state.loops[step_key(region.id, head_visit)])
        return self._advance(region.id, head_visit)

    def _end_item(self, region: Region, visit: int, items: Items) -> None:
        self._drop(region, visit)
        items.ended += 1

    def _drop(self, region: Region, visit: int) -> None:
        """Forget a turn and all the turns inside it."""
        state = self.state
        for name in [n for n in state.frames if self._is_within(*_parts(n), region, visit)]:
            del state.frames[name]
            self._counts.pop(name, None)
        for key in [k for k in state.loops if self._runs_in(k, region, visit)]:
            del state.loops[key]
        for frame in state.frames.values():
            frame.open = [key for key in frame.open if not self._runs_in(key, region, visit)]

    def _runs_in(self, key: str, region: Region, visit: int) -> bool:
        """Tell whether a step runs in a turn."""
        node_id, _, own = key.rpartition(":")
        home = self.loops.home(node_id)
        return home is not None and self._is_within(home, int(own), region, visit)

    def _is_within(self, region_id: str, own: int, region: Region, visit: int) -> bool:
        """Tell whether a turn is another one or inside it."""
        at: str | None = region_id
        while at is not None and at != region.id:
            own, at = self.loops.regions[at].visit_around(own), self.loops.regions[at].outer
        return at is not None and own == visit

    # ── frames

    def _by_place(self) -> Mapping[str, dict[str, tuple[Edge, ...]]]:
        """Group what joins, and the edges that join there, by the loop whose frames decide it."""
        places: dict[str, dict[str, tuple[Edge, ...]]] = {ROOT: {}}
        for node in self.graph.nodes:
            edges = (e for e in self.graph.incoming[node.id] if e.id not in self.loops.returning)
            places.setdefault(self.loops.outside(node.id) or ROOT, {})[node.id] = tuple(edges)
        return places

    def _frame(self, region_id: str | None, visit: int) -> Frame | None:
        if region_id is None:
            return self.state if visit == 1 else None
        return self.state.frames.get(f"{region_id}/{visit}")

    def _counts_of(self, place: str | None, visit: int, frame: Frame) -> Counts:
        name = f"{place}/{visit}" if place else ROOT
        if name not in self._counts:
            self._counts[name] = Counts(self._arriving.get(place or ROOT, {}), frame)
        return self._counts[name]


def _parts(name: str) -> tuple[str, int]:
    region_id, _, visit = name.rpartition("/")
    return region_id, int(visit)
