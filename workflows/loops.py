"""The loops of a graph: which nodes run again and again, how loops nest, and the number of each visit.

LOGIC_FOR_EACH runs what its handle `each` leads to once an item; LOGIC_GOTO runs what lies between its
target and itself once a jump. Both are regions of nodes with one way in, which nest or keep apart.

A node's visit says in which turn of each loop around it ran: divided by the cap of its own loop, the rest
is the turn and the quotient the visit of what is around. So a number depends on the item and not on the
order in which items end, and an effect's key stays the same when a reset has them end in another order
(design §6).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from workflows.graph import Graph, Loop

EACH = "each"
JUMP = "default"
EXHAUSTED = "exhausted"


class Arrow(Protocol):
    """An edge, of a graph or of a draft."""

    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def source_handle(self) -> str | None: ...


@dataclass(frozen=True)
class Region:
    """The nodes that a loop runs."""

    id: str
    """The node that makes the loop: the head of an `each`, the tail of a `jump`."""
    loop: Loop
    nodes: frozenset[str]
    outer: str | None = None
    """The loop around it."""

    @property
    def entry(self) -> str | None:
        """The node through which a `jump`'s region is entered and entered again."""
        return self.loop.target if self.loop.kind == "jump" else None

    def turn(self, visit: int) -> int:
        """Read from a visit in the loop how many turns came before."""
        return (visit - 1) % self.loop.cap

    def visit_around(self, visit: int) -> int:
        """Read from a visit in the loop that of what is around it."""
        return (visit - 1) // self.loop.cap + 1

    def first_visit(self, around: int) -> int:
        """Number the first turn's visits, by that of what is around the loop."""
        return (around - 1) * self.loop.cap + 1

    def frame(self, visit: int) -> str:
        """Name a turn."""
        return f"{self.id}/{visit}"

    @property
    def whole(self) -> frozenset[str]:
        """Its nodes and, of an `each`, the head, which is outside of what it repeats."""
        return self.nodes | {self.id}


class Loops:
    """The loops of one graph, looked up."""

    def __init__(self, loops: Mapping[str, Loop | None], arrows: Iterable[Arrow]) -> None:
        """Find them; `loops` names every node and what loop it makes, if any."""
        self.regions: Mapping[str, Region] = {}
        self.returning: frozenset[str] = frozenset()
        """Edges that only draw the way back: they decide nothing."""
        self.made = {node_id: loop for node_id, loop in loops.items() if loop is not None}
        """What each node that makes a loop makes, also where it repeats nothing."""
        self._homes: dict[str, str] = {}
        if self.made:
            self._find(self.made, _Paths(loops, arrows))

    def home(self, node_id: str) -> str | None:
        """Name the innermost loop that runs a node."""
        return self._homes.get(node_id)

    def around(self, node_id: str) -> Iterator[Region]:
        """Yield the loops that run a node, the innermost first."""
        region_id = self.home(node_id)
        while region_id is not None:
            region = self.regions[region_id]
            yield region
            region_id = region.outer

    def entered(self, node_id: str) -> Iterator[Region]:
        """Yield the loops that are entered through a node, the innermost first."""
        for region in self.around(node_id):
            if region.entry != node_id:
                return
            yield region

    def outside(self, node_id: str) -> str | None:
        """Name the innermost loop around a node that is not entered through it: there its branches join."""
        return next((r.id for r in self.around(node_id) if r.entry != node_id), None)

    def crossing(self) -> tuple[Region, Region] | None:
        """Find two loops that share nodes though neither is inside the other."""
        regions = list(self.regions.values())
        for number, one in enumerate(regions):
            for other in regions[number + 1 :]:
                shared = one.nodes & other.nodes
                if shared and not (one.whole <= other.nodes or other.whole <= one.nodes):
                    return one, other
        return None

    def visits_cap(self, region: Region) -> int:
        """Count the visits that a node directly in a loop may come to."""
        around = self.regions[region.outer] if region.outer else None
        return region.loop.cap * (self.visits_cap(around) if around else 1)

    def _find(self, made: Mapping[str, Loop], paths: "_Paths") -> None:
        bodies = {node_id: paths.body(node_id) for node_id, loop in made.items() if loop.kind == "each"}
        paths.drop(returning := set(paths.back_to(bodies)) | set(paths.jumping(made)))
        jumps = {
            node_id: _with_bodies(paths.between(loop.target, node_id), bodies)
            for node_id, loop in made.items()
            if loop.kind == "jump"
        }
        found = [
            Region(node_id, made[node_id], nodes) for node_id, nodes in (bodies | jumps).items() if nodes
        ]
        # Of two over the same nodes the `jump` is inside: the head of the other is not among them.
        by_size = sorted(found, key=lambda each: (len(each.nodes), each.loop.kind == "each", each.id))
        self.regions = {region.id: _nested(region, by_size) for region in found}
        self.returning = frozenset(returning)
        for region in by_size:
            for node_id in region.nodes:
                self._homes.setdefault(node_id, region.id)


def of(graph: Graph) -> Loops:
    """Find the loops of a graph."""
    return Loops({node.id: node.loop for node in graph.nodes}, graph.edges)


class _Paths:
    """What leads where."""

    def __init__(self, known: Mapping[str, object], arrows: Iterable[Arrow]) -> None:
        self._arrows = [arrow for arrow in arrows if arrow.source in known and arrow.target in known]

    def body(self, head: str) -> frozenset[str]:
        """Name what the handle `each` leads to, up to where it comes back."""
        entries = [a.target for a in self._arrows if a.source == head and a.source_handle == EACH]
        return frozenset(self._reached(entries, self._grouped("source", "target"), stop=head))

    def back_to(self, bodies: Mapping[str, frozenset[str]]) -> Iterator[str]:
        """Name the edges from a body back to its head."""
        return (a.id for a in self._arrows if a.source in bodies.get(a.target, ()))

    def jumping(self, made: Mapping[str, Loop]) -> Iterator[str]:
        """Name the edges that draw a jump."""
        jumps = {node_id for node_id, loop in made.items() if loop.kind == "jump"}
        return (a.id for a in self._arrows if a.source in jumps and a.source_handle == JUMP)

    def drop(self, returning: set[str]) -> None:
        """Leave edges out from here on."""
        self._arrows = [arrow for arrow in self._arrows if arrow.id not in returning]

    def between(self, first: str, last: str) -> frozenset[str]:
        """Name what lies on the ways from one node to another, both included; nothing if there is no way."""
        ahead = self._reached([first], self._grouped("source", "target"))
        behind = self._reached([last], self._grouped("target", "source"))
        return frozenset(ahead & behind) if first in behind else frozenset()

    def _grouped(self, by: str, other: str) -> Mapping[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for arrow in self._arrows:
            groups.setdefault(getattr(arrow, by), []).append(getattr(arrow, other))
        return groups

    def _reached(self, start: list[str], following: Mapping[str, list[str]], *, stop: str = "") -> set[str]:
        seen = {stop}
        waiting = list(start)
        while waiting:
            node_id = waiting.pop()
            if node_id not in seen:
                seen.add(node_id)
                waiting += following.get(node_id, ())
        return seen - {stop}


def _with_bodies(nodes: frozenset[str], bodies: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Take in what the heads inside a region run: no path leads from there to the region's end."""
    inside, waiting = set(nodes), list(nodes)
    while waiting:
        body = bodies.get(waiting.pop(), frozenset()) - inside
        inside |= body
        waiting += body
    return frozenset(inside)


def _nested(region: Region, by_size: list[Region]) -> Region:
    """Find the smallest loop around a region."""
    later = by_size[by_size.index(region) + 1 :]
    outer = next((other for other in later if region.whole <= other.nodes), None)
    return Region(region.id, region.loop, region.nodes, outer.id if outer else None)
