"""The steps that a rerun keeps of the run before it, as its own rows tell them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from workflows.frames import ROOT, Frame
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
    """Yield them in the order in which they were decided; of loops what their present turns have decided."""
    under_way = {*run.state.ready, *run.state.walk.loops}
    for name, frame in ((ROOT, run.state.walk), *run.state.walk.frames.items()):
        for node_id, visit in frame.visits.items():
            key, node = step_key(node_id, visit), run.graph.by_id[node_id]
            # One that begins a loop is noted in what is around the loop, too.
            if key in under_way or run.loop_of(node_id) != name.rpartition("/")[0]:
                continue
            outputs = run.outputs_around(node_id, visit)
            if node_id in outputs:
                yield _ended(key, node, run, frame, outputs[node_id])
            else:
                yield Kept(key, "skipped", {"skip_reason": _why_not(node, run, frame)})


def _ended(key: str, node: Node, run: Run, frame: Frame, output: JsonValue) -> Kept:
    outcome = Outcome(output=output, handles=_handles(node, run, frame))
    error = error_of(node, output)
    if error is None:
        return Kept(key, "completed", {"outcome": outcome, "skip_reason": KEPT})
    # It failed and the run went on, as its `onError` says; such a step's row has an error and no output.
    handle = ",".join(outcome.handles) or None
    return Kept(key, "failed", {"error": error, "handle": handle, "skip_reason": KEPT})


def _handles(node: Node, run: Run, frame: Frame) -> tuple[str, ...]:
    """Name the ways out that are known by the edges taken."""
    edges = run.graph.outgoing[node.id]
    taken = [edge.source_handle for edge in edges if frame.edges.get(edge.id) == "taken"]
    return tuple(dict.fromkeys(filter(None, taken)))


def error_of(node: Node, output: JsonValue) -> dict[str, Any] | None:
    """Read why a step failed whose `onError` let the run go on; None if it did not fail."""
    if node.on_error == "fail" or not isinstance(output, dict) or set(output) != {"error"}:
        return None
    error = output["error"]
    return error if isinstance(error, dict) and set(error) == {"type", "message"} else None


def _why_not(node: Node, run: Run, frame: Frame) -> str:
    """Say why a node was skipped; the walk keeps no reasons."""
    states = [frame.edges.get(edge.id) for edge in run.graph.incoming[node.id]]
    if not states:
        return "unreachable"
    if "taken" not in states:
        return "branch_not_taken"
    if node.join == "all" and "dead" in states:
        return "join_incomplete"
    return "disabled"
