"""Random graphs with loops, and a second interpreter of them, written from the words alone.

The interpreter knows nothing of frames: it asks of each node in each turn whether it runs, and for that asks
the same of all that leads there. What a step does is drawn from its key, so every order gives the same.
"""

from dataclasses import dataclass, field
from functools import cache
from random import Random

from tests.workflows.drawn import HANDLES, JOINS, log, merge, trigger
from workflows.graph import Edge, Graph, Join, Loop, Node, step_key

Key = tuple[str, int]


@dataclass
class Pen:
    """Draws a graph, part by part."""

    dice: Random
    nodes: list[Node] = field(default_factory=lambda: [trigger()])
    edges: list[Edge] = field(default_factory=list)
    jumps: int = 0
    """Jumps around what is being drawn: in there no join is of the first, or a jump would leave the rest
    of its turn behind, and who that is would depend on the order."""

    def connect(self, source: str, target: str, handle: str | None) -> None:
        self.edges.append(Edge(id=f"e{len(self.edges)}", source=source, target=target, source_handle=handle))

    def part(self, entry: tuple[str, str | None], size: int, depth: int) -> list[str]:
        """Draw nodes behind an entry; return their ids."""
        here: list[str] = []
        for _ in range(size):
            kind = self.dice.choices(("plain", "each", "jump"), (6, 1, 1))[0] if depth < 3 else "plain"
            here += getattr(self, f"_{kind}")(entry, here, depth)
        return here

    def _plain(self, entry: tuple[str, str | None], here: list[str], depth: int) -> list[str]:
        number, join = len(self.nodes), self._join()
        node = log(f"n{number}", join=join, disabled=self.dice.random() < 0.08)
        self.nodes.append(merge(node.id, join) if self.dice.random() < 0.2 else node)
        self._lead_to(node.id, entry, here)
        return [node.id]

    def _each(self, entry: tuple[str, str | None], here: list[str], depth: int) -> list[str]:
        loop = Loop(
            kind="each",
            cap=self.dice.randint(3, 5),
            at_once=self.dice.choice((1, 2, 9)),
            fails=self.dice.random() < 0.5,
        )
        head = f"f{len(self.nodes)}"
        on_error = self.dice.choice(("branch", "continue"))
        self.nodes.append(
            log(head, type="LOGIC_FOR_EACH", loop=loop, config={"items": []}, on_error=on_error)
        )
        self._lead_to(head, entry, here)
        for node_id in self.part((head, "each"), self.dice.randint(0, 5), depth + 1):
            if self.dice.random() < 0.4:
                self.connect(node_id, head, None)
        return [head]

    def _jump(self, entry: tuple[str, str | None], here: list[str], depth: int) -> list[str]:
        self.jumps += 1
        [first] = self._plain(entry, here, depth)
        inside = [first, *self.part((first, None), self.dice.randint(0, 4), depth + 1)]
        tail = f"g{len(self.nodes)}"
        loop = Loop(kind="jump", cap=self.dice.randint(1, 3), target=first)
        config = {"targetNodeId": first}
        self.nodes.append(log(tail, type="LOGIC_GOTO", loop=loop, config=config, join=self._join()))
        self.jumps -= 1
        # An inner jump's tail must lead to the outer one's, or the two would cross.
        must = [node_id for node_id in inside if node_id.startswith("g")] or [first]
        for source in dict.fromkeys([*must, *self.dice.sample(inside, min(2, len(inside)))]):
            self.connect(source, tail, self._way_out(source))
        if self.dice.random() < 0.5:
            self.connect(tail, first, "default")
        return [*inside, tail]

    def _join(self) -> Join:
        return self.dice.choices(JOINS, (4, 1, 0 if self.jumps else 1))[0]

    def _lead_to(self, node_id: str, entry: tuple[str, str | None], here: list[str]) -> None:
        for _ in range(self.dice.choices((1, 2, 3), (5, 3, 1))[0]):
            source = self.dice.choice([None, *here[-4:], *here])
            if source is None:
                self.connect(entry[0], node_id, entry[1])
            else:
                self.connect(source, node_id, self._way_out(source))

    def _way_out(self, source: str) -> str | None:
        if source.startswith("f"):
            return self.dice.choice(("done", "done", "error"))
        return "exhausted" if source.startswith("g") else self.dice.choices(HANDLES, (14, 4, 2, 2, 1, 1))[0]


def looping_graph(seed: int, *, size: int = 10) -> Graph:
    """Draw one."""
    pen = Pen(Random(f"graph {seed}"))
    pen.part(("start", None), size, 0)
    return Graph(nodes=tuple(pen.nodes), edges=tuple(pen.edges))


@dataclass(frozen=True)
class Fate:
    """What each step would do, drawn from its key."""

    seed: int

    def handles(self, node: Node, visit: int) -> tuple[str, ...]:
        """Choose the ways that a step leaves by."""
        dice = self._dice("handles", node, visit)
        if node.type == "LOGIC_GOTO":
            return dice.choice((("default",), ("exhausted",)))
        if node.type != "UTILITY_LOG":
            return ("default",)
        return dice.choices((("default",), ("a",), ("b",), ("error",), ("a", "b"), ()), (12, 2, 2, 1, 3, 1))[
            0
        ]

    def items(self, node: Node, visit: int) -> int:
        """Choose how many items a loop has."""
        return self._dice("items", node, visit).randint(0, 3)

    def _dice(self, what: str, node: Node, visit: int) -> Random:
        return Random(f"{self.seed} {what} {node.id} {visit}")


class Teller:
    """Says of each node in each turn whether it runs, and why not."""

    def __init__(self, graph: Graph, fate: Fate) -> None:
        self.graph, self.fate = graph, fate
        self.nodes = dict(graph.by_id)
        self._bodies = {n.id: self._body(n.id) for n in graph.nodes if n.loop and n.loop.kind == "each"}
        self._edges = [e for e in graph.edges if not self._is_return(e)]
        self._rounds = {
            n.id: self._between(n.loop.target, n.id) for n in graph.nodes if n.loop and n.loop.kind == "jump"
        }
        self.why_not = cache(self._why_not)
        self.turns = cache(self._turns)

    def told(self) -> dict[str, str | None]:
        """Return the reason of each step that is not run, None for one that is, by key."""
        return {
            step_key(node.id, visit): self.why_not((node.id, visit))
            for node in self.graph.nodes
            for visit in self._all_visits(node.id)
        }

    # ── which loop is where

    def _body(self, head: str) -> set[str]:
        found: set[str] = set()
        reach = [e.target for e in self.graph.edges if e.source == head and e.source_handle == "each"]
        while reach:
            node_id = reach.pop()
            if node_id == head or node_id in found:
                continue
            found.add(node_id)
            jump = self.nodes[node_id].type == "LOGIC_GOTO"
            reach += [
                e.target for e in self.graph.outgoing[node_id] if not (jump and e.source_handle == "default")
            ]
        return found

    def _is_return(self, edge: Edge) -> bool:
        jumps = self.nodes[edge.source].type == "LOGIC_GOTO" and edge.source_handle == "default"
        return jumps or edge.source in self._bodies.get(edge.target, ())

    def _between(self, first: str, last: str) -> set[str]:
        ahead = cache(lambda a, b: a == b or any(ahead(e.target, b) for e in self._edges if e.source == a))
        found = {n for n in self.nodes if ahead(first, n) and ahead(n, last)}
        for head in [n for n in found if n in self._bodies]:
            found |= self._bodies[head]
        return found

    def loops_of(self, node_id: str) -> list[str]:
        """Name the loops that run a node, the innermost first."""
        around = [
            (len(ids), loop in self._bodies, loop)
            for loop, ids in (self._bodies | self._rounds).items()
            if node_id in ids
        ]
        return [loop for *_, loop in sorted(around)]

    def _cap(self, loop: str) -> int:
        made = self.nodes[loop].loop
        assert made is not None
        return made.cap

    def _all_visits(self, node_id: str) -> set[int]:
        return self._visits({1}, self.loops_of(node_id))

    def _visits(self, around: set[int], loops: list[str]) -> set[int]:
        """Name the visits in all turns of loops, the innermost first, for those of what is around them."""
        for loop in reversed(loops):
            around = {visit for at in around for visit in self.turns(loop, at)}
        return around

    def _turns(self, loop: str, around: int) -> tuple[int, ...]:
        """Name the visits in a loop's turns, for one visit of what is around it."""
        cap = self._cap(loop)
        found = [(around - 1) * cap + 1]
        if loop in self._bodies:
            ran = self.why_not((loop, around)) is None
            return tuple(range(found[0], found[0] + self.fate.items(self.nodes[loop], around))) if ran else ()
        while len(found) < cap and self._jumps(loop, found[-1]):
            found.append(found[-1] + 1)
        return tuple(found)

    def _jumps(self, tail: str, visit: int) -> bool:
        ran = self.why_not((tail, visit)) is None
        return ran and self.fate.handles(self.nodes[tail], visit) == ("default",)

    # ── whether a step runs

    def _why_not(self, key: Key) -> str | None:
        node_id, visit = key
        node = self.nodes[node_id]
        if node_id == "start":
            return None
        for loop in self.loops_of(node_id):
            if not self._enters(node_id, loop):
                break
            if (visit - 1) % self._cap(loop):
                # Whatever its branches say: a jump led here.
                return "disabled" if node.disabled else None
            visit = (visit - 1) // self._cap(loop) + 1
        arriving = [self._is_taken(e, visit) for e in self._edges if e.target == node_id]
        if not any(arriving):
            return "branch_not_taken"
        if node.join == "all" and not all(arriving):
            return "join_incomplete"
        return "disabled" if node.disabled else None

    def _is_taken(self, edge: Edge, visit: int) -> bool:
        """Tell whether an edge is taken where its target joins, at that visit."""
        if edge.source in self._bodies and edge.source_handle == "each":
            return True
        left = [loop for loop in self.loops_of(edge.source) if loop not in self._places(edge.target)]
        return any(self._leaves(edge, own) for own in self._visits({visit}, left))

    def _places(self, target: str) -> list[str]:
        """Name the loops around the place where a node's branches join."""
        return [loop for loop in self.loops_of(target) if not self._enters(target, loop)]

    def _enters(self, node_id: str, loop: str) -> bool:
        made = self.nodes[loop].loop
        return made is not None and made.kind == "jump" and made.target == node_id

    def _leaves(self, edge: Edge, visit: int) -> bool:
        node = self.nodes[edge.source]
        reason = self.why_not((node.id, visit))
        if reason == "disabled":
            return edge.source_handle in (None, "default")
        if reason is not None:
            return False
        if node.id in self._bodies:
            return edge.source_handle == "done"
        handles = self.fate.handles(node, visit)
        if node.id in self._rounds:
            # The last turn has no jump left.
            last = (visit - 1) % self._cap(node.id) + 1 == self._cap(node.id)
            return edge.source_handle == "exhausted" and (last or handles == ("exhausted",))
        return edge.leaves_by(handles)
