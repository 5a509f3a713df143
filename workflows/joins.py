"""Joins that can never run: nodes that wait for every branch where no run can take them all.

What a run may have decided is a set of bits, one for each way out that edges use of a node which leaves by
one way only. A node's set holds the ways still open when it runs: branches that are alternatives add up,
branches that are needed together narrow it down. A node with no way left is one that no run gets through.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from workflows.drawing import Drawing, Line, Placed
from workflows.problems import Problem


def problems(drawing: Drawing) -> Iterator[Problem]:
    """Yield every join that waits for branches which exclude each other or are never reached."""
    waiting = [p for p in drawing.placed if _needs_all(p) and p.id in drawing.reached]
    if waiting:
        yield from _Possible(drawing).dead_joins()


def _needs_all(placed: Placed) -> bool:
    return placed.type is not None and placed.config is not None and placed.type.join(placed.config) == "all"


@dataclass(frozen=True)
class _Fork:
    """The bits of one node: its own guard, and one for each handle that edges leave by."""

    low: int
    guard: int
    bits: Mapping[str, int]


class _Possible:
    """What may still have been decided, node by node, in the order of the walk."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._forks: dict[str, _Fork] = {}
        self._size = 0
        for placed in drawing.placed:
            self._add_fork(placed)
        self._lows = sum(fork.low for fork in self._forks.values())
        self._guards = sum(fork.guard for fork in self._forks.values())
        self._open = (1 << self._size) - 1 - self._guards
        self._at: dict[str, int | None] = {}
        """None: no run gets there."""

    def dead_joins(self) -> Iterator[Problem]:
        """Work through the drawing; what merely follows a dead join is dead too and is not told."""
        for node_id in self._drawing.order:
            placed, lines = self._drawing.by_id[node_id], self._drawing.incoming[node_id]
            ways = [self._over(line) for line in lines]
            self._at[node_id] = self._joined(placed, ways)
            is_new = self._at[node_id] is None and any(way is not None for way in ways)
            if is_new and _needs_all(placed):
                yield self._told(placed, lines, ways)

    def _joined(self, placed: Placed, ways: list[int | None]) -> int | None:
        if not ways:
            return self._open if placed.is_trigger else None
        alive = [way for way in ways if way is not None]
        if not _needs_all(placed):
            return _added(alive)
        return self._narrowed(ways)

    def _narrowed(self, ways: list[int | None]) -> int | None:
        left = self._open
        for way in ways:
            if way is None:
                return None
            left &= way
        return None if self._blocked(left) else left

    def _over(self, line: Line) -> int | None:
        """Return what may have been decided by a run that follows this line."""
        at, fork = self._at.get(line.edge.source), self._forks.get(line.edge.source)
        if at is None or fork is None:
            return at
        mine = sum(fork.bits[handle] for handle in _handles(line, fork.bits))
        left = at & ~(sum(fork.bits.values()) - mine)
        return None if self._blocked(left) else left

    def _blocked(self, left: int) -> int:
        """Return the guards of the nodes that have no way left.

        Taking one from each node's bits borrows from the node's guard exactly where all its bits are zero.
        """
        return ~((left | self._guards) - self._lows) & self._guards

    def _add_fork(self, placed: Placed) -> None:
        if placed.type is None or placed.config is None or not placed.type.takes_one_way(placed.config):
            return
        lines = self._drawing.outgoing[placed.id]
        handles = sorted({line.edge.source_handle or "" for line in lines})
        if len(handles) < 2:
            return
        if "" in handles:
            # An edge without a handle follows every way but `error`, so the unused ways count too.
            handles = sorted({*handles, *(placed.ways_out or ())} - {""})
        bits = {handle: 1 << (self._size + number) for number, handle in enumerate(handles)}
        low, self._size = 1 << self._size, self._size + len(handles) + 1
        self._forks[placed.id] = _Fork(low=low, guard=1 << (self._size - 1), bits=bits)

    def _told(self, placed: Placed, lines: tuple[Line, ...], ways: list[int | None]) -> Problem:
        field = "mode" if "mode" in placed.node.config else "joinMode"
        never = [line.edge.source for line, way in zip(lines, ways, strict=True) if way is None]
        why = f"`{never[0]}` never runs" if never else f"`{self._culprit(ways)}` leaves by one way only"
        return placed.problem(
            "join_never_runs",
            f"`{placed.id}` waits for all its branches, and no run takes them all: {why}.",
            "Let it go on with `any_live`, or change what leads to it.",
            *("data", "config", field),
        )

    def _culprit(self, ways: list[int | None]) -> str:
        left = self._open
        for way in ways:
            left &= way or 0
        blocked = self._blocked(left)
        return next(node_id for node_id, fork in self._forks.items() if fork.guard & blocked)


def _handles(line: Line, known: Mapping[str, int]) -> list[str]:
    if line.edge.source_handle is None:
        return [handle for handle in known if handle != "error"]
    return [line.edge.source_handle]


def _added(ways: list[int]) -> int | None:
    if not ways:
        return None
    total = 0
    for way in ways:
        total |= way
    return total
