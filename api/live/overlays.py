"""What is drawn on a graph: how steps went, node by node, and how many went over each edge. Pure.

Rows know by which handles a step left, not over which edges: an edge with a rule of its own counts as gone
over when what it leads to ran.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from db.overlays import Sum
from workflows import nodes as registry
from workflows.graph import Edge, Graph, Node
from workflows.loops import EACH
from workflows.run import first_way

Status = Literal["running", "failed", "completed", "cancelled", "skipped"]
TELLING: tuple[Status, ...] = ("running", "failed", "completed", "cancelled", "skipped")
"""Of a node that ran more than once the first of these is shown."""
PASSED_BY = ("disabled", "skipped_by_user")
"""Skips after which a run goes on by the node's first way out."""


class EdgeOverlay(BaseModel):
    """One edge."""

    model_config = ConfigDict(title="EdgeOverlay")

    count: int = Field(description="How often it was gone over.")


class RunNodeOverlay(BaseModel):
    """One node of one run."""

    model_config = ConfigDict(title="ExecutionNodeOverlay")

    status: Status | None = Field(description="None: the run has not come here.")
    visits: int = Field(description="How often it ran; in a loop once for each item.")
    skip_reason: str | None = None
    failed: int = Field(0, description="How many of its visits failed.")
    duration_ms: float | None = Field(None, description="Of all its visits that have ended, waits included.")


class NodeOverlay(BaseModel):
    """One node, over many runs."""

    model_config = ConfigDict(title="WorkflowNodeOverlay")

    leads: int = Field(0, description="How many leads came here; a run without a lead counts for itself.")
    came: int = Field(0, description="How often it ran; what was skipped did not come.")
    waiting: int = Field(0, description="How many are here at this moment, whenever their runs began.")
    left: int = Field(0, description="How often it was gone on from.")
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    p50_ms: float | None = Field(None, description="From coming to leaving, waits included.")
    p95_ms: float | None = None


@dataclass
class Tally:
    """The sums of one node."""

    whole: Sum | None = None
    ways: list[Sum] = field(default_factory=list)

    def count(self, *statuses: str) -> int:
        """Count the steps of these statuses."""
        return sum(way.count for way in self.ways if way.status in statuses)

    @property
    def ran(self) -> int:
        """Count the steps that were not skipped."""
        return sum(way.count for way in self.ways if way.status != "skipped")

    @property
    def reached(self) -> int:
        """Count the steps that a run came to, even where somebody had it pass by."""
        return sum(way.count for way in self.ways if way.status != "skipped" or way.skip_reason in PASSED_BY)


def tallies(sums: Iterable[Sum]) -> Mapping[str, Tally]:
    """Group sums by node."""
    found: dict[str, Tally] = defaultdict(Tally)
    for each in sums:
        if each.status is None:
            found[each.node_id].whole = each
        else:
            found[each.node_id].ways.append(each)
    return found


def of_run(graph: Graph, found: Mapping[str, Tally]) -> dict[str, RunNodeOverlay]:
    """Tell how one run went, node by node."""
    return {node.id: _run_node(found.get(node.id, Tally())) for node in graph.nodes}


def of_workflow(
    graph: Graph, found: Mapping[str, Tally], waiting: Mapping[str, int]
) -> dict[str, NodeOverlay]:
    """Tell how many runs went, node by node."""
    return {
        node.id: _node(node, found.get(node.id, Tally()), waiting.get(node.id, 0)) for node in graph.nodes
    }


def edges(graph: Graph, found: Mapping[str, Tally]) -> dict[str, EdgeOverlay]:
    """Tell how many went over each edge."""
    return {edge.id: EdgeOverlay(count=_gone_over(graph, edge, found)) for edge in graph.edges}


def _run_node(tally: Tally) -> RunNodeOverlay:
    statuses = {way.status for way in tally.ways}
    status = next((status for status in TELLING if status in statuses), None)
    reasons = [way.skip_reason for way in tally.ways if way.skip_reason]
    return RunNodeOverlay(
        status=status,
        visits=tally.ran,
        skip_reason=reasons[0] if status == "skipped" and reasons else None,
        failed=tally.count("failed"),
        duration_ms=_rounded(tally.whole.ms if tally.whole else None),
    )


def _node(node: Node, tally: Tally, waiting: int) -> NodeOverlay:
    whole = tally.whole
    half, most = (whole.percentiles if whole else None) or (None, None)
    return NodeOverlay(
        leads=whole.leads if whole else 0,
        came=tally.ran,
        waiting=waiting,
        left=sum(way.count for way in tally.ways if _leaves(node, way)),
        failed=tally.count("failed"),
        skipped=tally.count("skipped"),
        cancelled=tally.count("cancelled"),
        p50_ms=_rounded(half),
        p95_ms=_rounded(most),
    )


def _leaves(node: Node, way: Sum) -> bool:
    return way.status == "completed" or bool(_handles(node, way))


def _handles(node: Node, way: Sum) -> tuple[str, ...]:
    """Name the ways out that such steps took."""
    if way.status == "skipped":
        return first_way(node) if way.skip_reason in PASSED_BY and node.type in registry.types() else ()
    return tuple(filter(None, way.handle.split(","))) if way.status in ("completed", "failed") else ()


def _gone_over(graph: Graph, edge: Edge, found: Mapping[str, Tally]) -> int:
    source = graph.by_id.get(edge.source)
    if source is None or edge.target not in graph.by_id:
        return 0
    arrived = found[edge.target].reached if edge.target in found else 0
    loop = source.loop
    if loop is not None and loop.kind == "each" and edge.source_handle == EACH:
        # A loop leaves by `done` once, and this way once for each item.
        return arrived
    ways = found[source.id].ways if source.id in found else []
    left = sum(way.count for way in ways if edge.leaves_by(_handles(source, way)))
    return min(left, arrived) if edge.condition is not None else left


def _rounded(milliseconds: float | None) -> float | None:
    return round(milliseconds, 1) if milliseconds is not None else None
