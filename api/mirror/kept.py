"""The steps that a rerun keeps of the run before it, as its own rows tell them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from workflows.graph import Node, step_key
from workflows.messages import Outcome
from workflows.run import Run

KEPT = "kept"
"""Why a completed step did not run here."""


@dataclass(frozen=True)
class Kept:
    """A step that does not run again."""

    key: str
    status: str
    columns: dict[str, Any]


def kept(run: Run) -> Iterator[Kept]:
    """Yield them in the order in which they were decided."""
    for node_id, visit in run.state.walk.visits.items():
        key, node = step_key(node_id, visit), run.graph.by_id[node_id]
        if key in run.state.ready:
            continue
        if node_id in run.state.outputs:
            yield _ended(key, node, run)
        else:
            yield Kept(key, "skipped", {"skip_reason": _why_not(node, run)})


def _ended(key: str, node: Node, run: Run) -> Kept:
    output = run.state.outputs[node.id]
    outcome = Outcome(output=output, handles=_handles(node, run))
    error = _error(node, output)
    if error is None:
        return Kept(key, "completed", {"outcome": outcome, "skip_reason": KEPT})
    # It failed and the run went on, as its `onError` says; such a step's row has an error and no output.
    handle = ",".join(outcome.handles) or None
    return Kept(key, "failed", {"error": error, "handle": handle, "skip_reason": KEPT})


def _handles(node: Node, run: Run) -> tuple[str, ...]:
    """Name the ways out that are known by the edges taken."""
    edges = run.graph.outgoing[node.id]
    taken = [edge.source_handle for edge in edges if run.state.walk.edges.get(edge.id) == "taken"]
    return tuple(dict.fromkeys(filter(None, taken)))


def _error(node: Node, output: JsonValue) -> dict[str, Any] | None:
    if node.on_error == "fail" or not isinstance(output, dict) or set(output) != {"error"}:
        return None
    error = output["error"]
    return error if isinstance(error, dict) and set(error) == {"type", "message"} else None


def _why_not(node: Node, run: Run) -> str:
    """Say why a node was skipped; the walk keeps no reasons."""
    states = [run.state.walk.edges.get(edge.id) for edge in run.graph.incoming[node.id]]
    if not states:
        return "unreachable"
    if "taken" not in states:
        return "branch_not_taken"
    if node.join == "all" and "dead" in states:
        return "join_incomplete"
    return "disabled"
