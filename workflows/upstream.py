"""What has run before a node: perhaps, and in every run that gets there.

Sets of nodes are bits by their place in the order, so that a graph of thousands is a matter of milliseconds.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, reduce
from operator import and_, or_

from workflows.drawing import Drawing, Line, Placed

ROUNDS_CAP = 20
"""Times that circles within circles are gone round; then every node may have run before every other."""


def in_order(drawing: Drawing) -> tuple[str, ...]:
    """Order all nodes, each after those that lead to it; what closes a circle counts for nothing."""
    seen: set[str] = set()
    ended: list[str] = []
    for first in [*drawing.triggers, *drawing.placed]:
        if first.id in seen:
            continue
        seen.add(first.id)
        path = [(first.id, _targets(drawing, first.id))]
        while path:
            node_id, targets = path[-1]
            target = next((one for one in targets if one not in seen), None)
            if target is None:
                ended.append(node_id)
                path.pop()
            else:
                seen.add(target)
                path.append((target, _targets(drawing, target)))
    return tuple(reversed(ended))


def _targets(drawing: Drawing, node_id: str) -> Iterator[str]:
    return (line.edge.target for line in drawing.outgoing[node_id])


class Upstream:
    """What leads where in one drawing."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._order = in_order(drawing)
        self._place = {node_id: number for number, node_id in enumerate(self._order)}
        self._followers: dict[tuple[str, str], int] = {}

    def may_precede(self, owner: Placed, placed: Placed) -> bool:
        """Tell whether one node may have run when another begins; in a circle that goes for all of it."""
        return bool(self._before[placed.id] >> self._place[owner.id] & 1) or self._share_turns(owner, placed)

    def _share_turns(self, owner: Placed, placed: Placed) -> bool:
        """Tell whether a jump runs both again: what comes later in one turn precedes the next."""
        jumps = [region for region in self._drawing.loops.regions.values() if region.loop.kind == "jump"]
        return any(owner.id in region.nodes and placed.id in region.nodes for region in jumps)

    def must_precede(self, owner: Placed, placed: Placed) -> bool:
        """Tell whether one node has run in every run in which the other does."""
        if placed.id not in self._drawing.reached:
            return True
        return bool(self._certain[placed.id] >> self._place[owner.id] & 1)

    @cached_property
    def _before(self) -> Mapping[str, int]:
        before = dict.fromkeys(self._order, 0)
        # Once where there is no circle; around circles again, until nothing new comes round.
        for _ in range(ROUNDS_CAP):
            if not self._spread(before):
                return before
        return dict.fromkeys(self._order, (1 << len(self._order)) - 1)

    def _spread(self, before: dict[str, int]) -> bool:
        """Go through the nodes once; tell whether something new came round a circle."""
        is_new = False
        for node_id in self._order:
            sources = [line.edge.source for line in self._drawing.incoming[node_id]]
            found = _all(before[source] | 1 << self._place[source] for source in sources)
            comes_round = any(self._place[source] >= self._place[node_id] for source in sources)
            is_new = is_new or (comes_round and found != before[node_id])
            before[node_id] = found
        return is_new

    @cached_property
    def _certain(self) -> Mapping[str, int]:
        """For each node those that ran for certain when it begins."""
        # From behind, so that whatever follows a node is known before the node is asked for it.
        for node_id in reversed(self._order):
            for handle in _handles(self._drawing.by_id[node_id]):
                self._followers[node_id, handle] = self._follow(node_id, handle)
        certain: dict[str, int] = {}
        for node_id in self._order:
            placed = self._drawing.by_id[node_id]
            lines = (o for o in self._drawing.incoming[node_id] if o.edge.source in self._drawing.reached)
            # A run comes in before it comes round.
            ways = [certain[o.edge.source] | self._over(o, placed) for o in lines if o.edge.source in certain]
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
        """Mark a node, unless it is disabled and so has no output."""
        config = self._drawing.by_id[node_id].config
        return 0 if config is not None and config.disabled else 1 << self._place[node_id]


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
