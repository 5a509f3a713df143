"""Other workflows that a drawing names: whether they can be started is known to the database alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from workflows import nodes
from workflows.drawing import Drawing, Placed
from workflows.nodetype import Callee
from workflows.problems import Problem
from workflows.reactflow import Draft

REMEDY = "Choose a workflow that is published."
FIELD = ("data", "config", "workflowId")


@dataclass(frozen=True)
class Other:
    """A workflow as those see it that start runs of it."""

    name: str
    status: str
    is_published: bool


@dataclass(frozen=True)
class Neighbours:
    """The drawing's own workflow, and what is known of those that it names."""

    own: UUID
    known: Mapping[UUID, Other]


def named(draft: Draft) -> set[UUID]:
    """Return the workflows that a draft starts runs of."""
    known = nodes.types()
    # Most drafts name none: to look one up as a whole for that would double the work.
    if not any(node.type in known and known[node.type].starts_runs for node in draft.nodes):
        return set()
    return {callee.workflow_id for _, callee in _callees(Drawing(draft))}


def problems(drawing: Drawing, neighbours: Neighbours) -> Iterator[Problem]:
    """Yield what keeps the workflows that a drawing names from being started."""
    for placed, callee in _callees(drawing):
        if callee.workflow_id != neighbours.own:
            yield from _of(placed, callee, neighbours.known.get(callee.workflow_id))
        elif callee.waits:
            message = f"`{placed.id}` waits for a run of its own workflow, which would wait for the next one."
            remedy = "Choose another workflow, or set `wait` to false."
            yield placed.problem("waits_for_itself", message, remedy, "data", "config", "wait")


def _callees(drawing: Drawing) -> Iterator[tuple[Placed, Callee]]:
    for placed in drawing.placed:
        if placed.type is not None and placed.config is not None and placed.type.starts_runs:
            callee = placed.type.callee(placed.config)
            if callee is not None:
                yield placed, callee


def _of(placed: Placed, callee: Callee, other: Other | None) -> Iterator[Problem]:
    if other is None:
        message = f"This workspace has no workflow {callee.workflow_id}."
        yield placed.problem("unknown_workflow", message, REMEDY, *FIELD)
    elif not other.is_published:
        message = f"“{other.name}” was never published, so no run of it can be started."
        yield placed.problem("workflow_not_published", message, "Publish it first.", *FIELD)
    elif other.status == "archived":
        message = f"“{other.name}” is archived and starts no runs."
        yield placed.problem("workflow_archived", message, "Resume it, or choose another.", *FIELD)
    elif other.status == "paused":
        message = f"“{other.name}” is paused: until it is resumed, this node fails."
        yield placed.problem("workflow_paused", message, "Resume it.", *FIELD, severity="warning")
