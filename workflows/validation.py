"""Everything that can be known to be wrong with a workflow before it runs (design §9)."""

import difflib
from collections.abc import Iterator, Sequence
from functools import lru_cache

from workflows import callees, joins, nodes, publish, references, rounds, schemas, shape, surroundings
from workflows.callees import Neighbours
from workflows.drawing import Drawing, Placed
from workflows.messages import EdgeRule
from workflows.problems import Problem
from workflows.questions import Field, FieldType
from workflows.reactflow import Draft

PROBLEMS_CAP = 500
SNAPSHOT_CAP = 1_500_000
"""Bytes of the published graph: it travels in one payload with all that a run knows."""
SAVED = frozenset({"unknown_node_type"})
"""What is refused even in a draft; everything else may be mended later."""


def problems(
    draft: Draft, fields: Sequence[Field], *, publishing: bool, neighbours: Neighbours | None = None
) -> list[Problem]:
    """List every problem, errors first; in a draft that is only saved, what can wait is a warning.

    Whether other workflows can be started is judged where `neighbours` tell of them.
    """
    drawing = Drawing(draft)
    found = list(_found(drawing, fields))
    found += callees.problems(drawing, neighbours) if neighbours else ()
    if not any(problem.severity == "error" for problem in found):
        found += _too_large(drawing)
    if not publishing:
        found = [_eased(problem) for problem in found]
    return sorted(found, key=lambda problem: problem.severity != "error")[:PROBLEMS_CAP]


def _found(drawing: Drawing, fields: Sequence[Field]) -> Iterator[Problem]:
    for placed in drawing.placed:
        yield from _of_node(drawing, placed)
    yield from shape.problems(drawing)
    yield from rounds.problems(drawing)
    yield from joins.problems(drawing)
    yield from references.problems(drawing, fields)
    yield from _of_form(drawing, fields)
    yield from _of_hook(drawing, fields)
    yield from _of_input(drawing)


def _of_node(drawing: Drawing, placed: Placed) -> Iterator[Problem]:
    if placed.type is None:
        message = f"There is no node type `{placed.node.type}`."
        yield placed.problem("unknown_node_type", message, _nearest_type(placed.node.type), "type")
    for flaw in placed.flaws:
        yield placed.problem(flaw.code, flaw.message, flaw.remedy, "data", "config", *flaw.path)
    if placed.type is not None and placed.config is not None:
        for problem in placed.type.flaws(placed.config, _rules(drawing, placed)):
            path = [part for part in problem.pointer.split("/") if part]
            told = placed.problem(problem.code, problem.message, problem.remedy, "data", "config", *path)
            yield told.model_copy(update={"severity": problem.severity})


@lru_cache(maxsize=256)
def _nearest_type(name: str) -> str:
    """Search once for each name: it is slow, and a draft may use it thousands of times."""
    close = difflib.get_close_matches(name, nodes.types(), n=1)
    return f"Did you mean {close[0]}?" if close else f"Use one of {', '.join(nodes.types())}."


def _rules(drawing: Drawing, placed: Placed) -> tuple[EdgeRule, ...]:
    edges = (line.edge for line in drawing.outgoing[placed.id])
    return tuple(
        EdgeRule(edge_id=edge.id, handle=edge.source_handle, rule=edge.condition)
        for edge in edges
        if edge.condition is not None
    )


def _of_form(drawing: Drawing, fields: Sequence[Field]) -> Iterator[Problem]:
    if any(field.field_type == FieldType.EMAIL for field in fields):
        return
    for trigger in drawing.triggers:
        if trigger.node.type == surroundings.FORM:
            message = "The form asks for no e-mail address, so its submissions make no leads."
            remedy = "Add a form field of the type EMAIL."
            yield trigger.problem("form_without_email", message, remedy, severity="warning")


def _of_hook(drawing: Drawing, fields: Sequence[Field]) -> Iterator[Problem]:
    known = {*surroundings.PERSON, *(field.field_key for field in fields)}
    for trigger in drawing.triggers:
        if trigger.node.type != surroundings.HOOK or trigger.config is None:
            continue
        for key in sorted(getattr(trigger.config, "field_map", {}).keys() - known):
            message = f"`{key}` is neither a column of the lead nor a form field, so nothing keeps it."
            remedy = "Add a form field with this key, or take it out."
            path = ("data", "config", "fieldMap", key)
            yield trigger.problem("unknown_form_field", message, remedy, *path)


def _of_input(drawing: Drawing) -> Iterator[Problem]:
    for trigger in drawing.triggers:
        schema = getattr(trigger.config, "input_schema", None)
        for complaint in schemas.complaints(schema) if schema is not None else ():
            path = ("data", "config", "inputSchema", *complaint.path)
            message = f"The schema cannot be used: {complaint.message}."
            yield trigger.problem("bad_input_schema", message, "Write it as JSON Schema (2020-12).", *path)


def _too_large(drawing: Drawing) -> Iterator[Problem]:
    size = len(publish.graph_of(drawing).model_dump_json().encode())
    if size > SNAPSHOT_CAP:
        message = f"The published graph would have {size:,} bytes; {SNAPSHOT_CAP:,} are allowed."
        remedy = "Split the workflow, or shorten its texts."
        yield Problem(code="graph_too_large", message=message, remedy=remedy, pointer="/nodes")


def _eased(problem: Problem) -> Problem:
    if problem.code in SAVED:
        return problem
    return problem.model_copy(update={"severity": "warning"})
