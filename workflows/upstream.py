"""What has run before a node: perhaps, and in every run that gets there.

Sets of nodes are bits by their place in the order, so that a graph of thousands is a matter of milliseconds.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property, reduce
from operator import and_, or_

from workflows.drawing import Drawing, Line, Placed


class Upstream:
    """What leads where in one drawing; of nodes on and behind a cycle nothing is said."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._followers: dict[tuple[str, str], int] = {}

    def may_precede(self, owner: Placed, placed: Placed) -> bool:
        """Tell whether one node may have run when another begins; on a cycle there is no before."""
        if not self._is_ordered(owner, placed):
            return True
        return bool(self._before[placed.id] >> self._place[owner.id] & 1)

    def must_precede(self, owner: Placed, placed: Placed) -> bool:
        """Tell whether one node has run in every run in which the other does."""
        if not self._is_ordered(owner, placed) or placed.id not in self._drawing.reached:
            return True
        return bool(self._certain[placed.id] >> self._place[owner.id] & 1)

    def _is_ordered(self, *nodes: Placed) -> bool:
        return all(placed.id in self._place for placed in nodes)

    @cached_property
    def _place(self) -> Mapping[str, int]:
        return {node_id: number for number, node_id in enumerate(self._drawing.order)}

    @cached_property
    def _before(self) -> Mapping[str, int]:
        before: dict[str, int] = {}
        for node_id in self._drawing.order:
            sources = (line.edge.source for line in self._drawing.incoming[node_id])
            before[node_id] = _all(before[source] | 1 << self._place[source] for source in sources)
        return before

    @cached_property
    def _certain(self) -> Mapping[str, int]:
        """For each node those that ran for certain when it begins."""
        # From behind, so that whatever follows a node is known before the node is asked for it.
        for node_id in reversed(self._drawing.order):
            for handle in _handles(self._drawing.by_id[node_id]):
                self._followers[node_id, handle] = self._follow(node_id, handle)
        certain: dict[str, int] = {}
        for node_id in self._drawing.order:
            placed = self._drawing.by_id[node_id]
            lines = [o for o in self._drawing.incoming[node_id] if o.edge.source in self._drawing.reached]
            ways = [certain[o.edge.source] | self._over(o, placed) for o in lines]
            certain[node_id] = _all(ways) if _join(placed) == "all" else _common(ways)
        return certain

    def _over(self, line: Line, target: Placed) -> int:
        """Return what ran for certain when a run takes a line, beyond what ran before its source."""
        source = self._drawing.by_id[line.edge.source]
        if _join(target) == "first":
            # It does not wait for what else its source leads to.
            return self._bit(source.id)
        handle = line.edge.source_handle
        handles = [handle] if handle else [way for way in _handles(source) if way != "error"]
        return self._bit(source.id) | _common(self._followers.get((source.id, way), 0) for way in handles)

    def _follow(self, node_id: str, handle: str) -> int:
        """Return what runs for certain once a node has left by a handle."""
        found = 0
        for line in self._drawing.outgoing[node_id]:
            by = line.edge.source_handle
            target = self._drawing.by_id[line.edge.target]
            is_taken = by == handle or (by is None and handle != "error")
            if not is_taken or line.edge.condition is not None or _join(target) == "all":
                continue
            way = _only_way(target)
            found |= self._bit(target.id) | (self._followers.get((target.id, way), 0) if way else 0)
        return found

    def _bit(self, node_id: str) -> int:
        """Mark a node; one on a cycle has no place, and a disabled one no output."""
        config = self._drawing.by_id[node_id].config
        is_off = config is not None and config.disabled
        return 0 if is_off or node_id not in self._place else 1 << self._place[node_id]


def _join(placed: Placed) -> str:
    return placed.type.join(placed.config) if placed.type and placed.config else "any_live"


def _handles(placed: Placed) -> tuple[str, ...]:
    return placed.ways_out or ()


def _only_way(placed: Placed) -> str | None:
    """Return the way by which a node leaves, whatever happens in it, if there is one."""
    if placed.config is None or placed.config.on_error == "branch":
        return None
    ways = [way for way in _handles(placed) if way != "error"]
    return ways[0] if len(ways) == 1 or (ways and placed.config.disabled) else None


def _all(sets: Iterable[int]) -> int:
    return reduce(or_, sets, 0)


def _common(sets: Iterable[int]) -> int:
    several = list(sets)
    return reduce(and_, several) if several else 0
