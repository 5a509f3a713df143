"""What templates and rules name: their own mistakes, and values that cannot exist where they stand."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from workflows import codes, conditions, rules, shapes, templates, uses
from workflows.drawing import Drawing, Line, Placed, Severity, Spot
from workflows.nodetype import marked_values
from workflows.problems import Problem
from workflows.questions import Field
from workflows.shapes import Dead, Shape
from workflows.storable import Path
from workflows.surroundings import Surroundings
from workflows.upstream import Upstream

EVERY_BARE = frozenset({"now"})
"""Bare fields that need no scope."""
NEAREST_CAP = 200
"""Names among which the nearest is looked for: the search is slow."""
LEAD_REMEDY = "Have the trigger bring one (`leadQuery`, `emailPath`)."
NOUNS: Mapping[shapes.Kind, str] = {
    "text": "a text",
    "number": "a number",
    "boolean": "a yes/no value",
    "date": "a date",
    "list": "a list",
    "object": "an object",
    "nothing": "nothing",
}


class Finding(NamedTuple):
    """Something to be told of a path."""

    code: str
    message: str
    remedy: str
    severity: Severity = "error"


def problems(drawing: Drawing, fields: Sequence[Field]) -> Iterator[Problem]:
    """Yield what is wrong with the templates and rules of every node and edge."""
    return _References(drawing, fields).problems()


class _References:
    def __init__(self, drawing: Drawing, fields: Sequence[Field]) -> None:
        self._drawing = drawing
        self._around = Surroundings(drawing, fields)
        self._upstream = Upstream(drawing)

    def problems(self) -> Iterator[Problem]:
        for placed in self._drawing.placed:
            if placed.type is not None and placed.runs:
                yield from self._of_config(placed)
        for number, edge in enumerate(self._drawing.draft.edges):
            source = self._drawing.by_id.get(edge.source)
            if edge.condition is not None and source is not None and edge.is_enabled:
                yield from self._of_rule(
                    Line(number, edge), source, ("data", "condition"), edge.condition, own=True
                )

    def _of_config(self, placed: Placed) -> Iterator[Problem]:
        assert placed.type is not None  # noqa: S101 - the caller looked
        if placed.type.requires_lead and not self._around.has_lead:
            message = f"`{placed.id}` needs a lead, and what starts the run brings none."
            yield placed.problem("no_lead", message, LEAD_REMEDY, "type", severity="warning")
        for inside, marker, value in marked_values(placed.type.Config, placed.node.config):
            path = ("data", "config", *inside)
            if marker.kind == "rule":
                yield from self._of_rule(placed, placed, path, value)
                continue
            for inner, source in _texts(value):
                yield from self._of_template(placed, (*path, *inner), source)

    def _of_template(self, placed: Placed, path: Path, source: str) -> Iterator[Problem]:
        found = templates.problems(source)
        for problem in found:
            remedy = problem.remedy or codes.remedy(problem.code)
            told = placed.problem(problem.code, problem.message, remedy, *path)
            yield told.model_copy(update={"line": problem.line, "column": problem.column})
        used = uses.of(source)
        for named in sorted(templates.reads(source)):
            finding = self._of_path(named, placed, printed=named in used.printed)
            if finding is None and named in used.looped:
                finding = self._of_loop(named)
            if finding is not None:
                yield placed.problem(*finding[:3], *path, severity=finding.severity)

    def _of_rule(
        self, spot: Spot, placed: Placed, path: Path, rule: object, *, own: bool = False
    ) -> Iterator[Problem]:
        parsed, found = rules.read(rule)
        for problem in found:
            inner = _parts(problem.pointer)
            yield spot.problem(
                problem.code, problem.message, problem.remedy or codes.remedy(problem.code), *path, *inner
            )
        leaves = {(leaf.field, leaf.operator.name): leaf for leaf in _leaves(parsed)}
        findings = (
            self._of_field(leaf.field, placed, own=own) or self._of_operator(leaf)
            for _, leaf in sorted(leaves.items())
        )
        # A field that cannot be found is told once, whatever is asked of it.
        for finding in dict.fromkeys(finding for finding in findings if finding):
            yield spot.problem(*finding[:3], *path, severity=finding.severity)

    def _of_field(self, field: str, placed: Placed, *, own: bool) -> Finding | None:
        """Say why a rule's field cannot be found; a bare one may be an answer or the lead's own."""
        head, dot, _ = field.partition(".")
        if dot and head in conditions.SCOPES:
            return self._of_path(field, placed, own=own)
        known = self._around.lead.fields.keys() | EVERY_BARE
        keys = self._around.field_keys
        if keys is None or head in known or head in keys:
            return None
        message = f"`{field}` is neither a field of the form nor of the lead."
        return Finding("unknown_field", message, _nearest(head, keys | known))

    def _of_operator(self, rule: rules.Rule) -> Finding | None:
        """Say that an operator cannot be meant for what it looks at."""
        shape = self._shape(rule.field)
        kinds = shape.kinds - {"nothing"} if shape else frozenset()
        if shape is None or shape.is_any or not kinds or kinds & rule.operator.fits:
            return None
        wanted = _either(rule.operator.fits)
        message = f"`{rule.operator.name}` asks for {wanted}, and `{rule.field}` is {_either(kinds)}."
        return Finding("operator_mismatch", message, "Choose another operator, or another field.", "warning")

    def _of_loop(self, path: str) -> Finding | None:
        shape = self._shape(path)
        if shape is None or shape.is_any or shape.kinds & {"list", "object"}:
            return None
        message = f"`{path}` is {_either(shape.kinds)}, so there is nothing to loop over."
        return Finding("loop_over_no_list", message, "Loop over a list, or print the value.", "warning")

    def _shape(self, path: str) -> Shape | None:
        """Say what a path holds, if it is certain where it leads."""
        scope, *parts = path.split(".")
        if not parts or scope not in conditions.SCOPES:
            keys = self._around.field_keys or ()
            return shapes_at(self._around.trigger, [scope, *parts]) if scope in keys else None
        if scope == "steps":
            owner = self._around.owners.get(parts[0])
            return shapes_at(self._around.output_of(owner), parts[1:]) if owner else None
        if scope == "vars":
            return shapes_at(self._around.variable(parts[0]), parts[1:])
        return shapes_at(self._around.scope(scope), parts)

    def _of_path(
        self, path: str, placed: Placed, *, own: bool = False, printed: bool = False
    ) -> Finding | None:
        """Say why a path cannot lead to a value here, or may not; None if it does."""
        scope, *parts = path.split(".")
        if not parts:
            return None
        if scope == "steps":
            return self._of_step(parts, placed, own=own, printed=printed)
        if scope == "vars":
            return self._of_variable(parts, placed)
        return self._of_scope(scope, parts) or self._of_place(path, placed, printed=printed)

    def _of_place(self, path: str, placed: Placed, *, printed: bool) -> Finding | None:
        """Say why a path that exists leads nowhere for this node."""
        scope, name = path.split(".")[:2]
        if scope == "loop" and not self._is_in_loop(placed):
            message = f"`{path}`: no LOGIC_FOR_EACH runs `{placed.id}` for its items."
            remedy = "Move it behind the handle `each` of one, or name something else."
            return Finding("not_in_loop", message, remedy)
        if scope == "links":
            return self._of_link(name, placed)
        if scope == "lead" and printed and not self._around.has_lead:
            message = f"What starts the run brings no lead, so `{path}` is missing and fails this step."
            return Finding("no_lead", message, f"{LEAD_REMEDY} Or add `| default: …`.", "warning")
        return None

    def _of_link(self, name: str, placed: Placed) -> Finding | None:
        """Say why a link may not stand here; it is a secret of whom it is sent to."""
        if placed.type is None or not placed.type.sends:
            message = f"`links.{name}` would be kept where others can read it."
            return Finding("link_not_sent", message, "Use it in the text of a mail or in a request.")
        if name == "unsubscribe":
            return None
        found = self._drawing.approvals_after(placed.id)
        if len(found) == 1:
            return None
        if not found:
            message = f"`links.{name}` has nothing to decide: no approval comes after `{placed.id}`."
            remedy = "Connect it to a LOGIC_APPROVAL that the same loop runs, if any, or leave the link out."
            return Finding("no_approval_ahead", message, remedy)
        listed = ", ".join(f"`{one}`" for one in found)
        message = f"`links.{name}` could lead to any of {listed}."
        remedy = "Let one approval come first, or name its approvers."
        return Finding("several_approvals_ahead", message, remedy)

    def _of_scope(self, scope: str, parts: list[str]) -> Finding | None:
        found = shapes.follow(self._around.scope(scope), parts)
        if not isinstance(found, Dead):
            return None
        path, missing, names = ".".join((scope, *parts)), parts[found.at], found.holder.fields
        if "object" not in found.holder.kinds:
            return _no_object(scope, parts, found)
        in_trigger = scope == "trigger" and found.at == 0
        if self._around.is_form and (in_trigger or parts[: found.at] == ["fields"]):
            message = f"`{path}`: the form has no field `{missing}`."
            return Finding("unknown_form_field", message, _nearest(missing, names))
        if in_trigger:
            message = f"`{path}`: what starts the run has no `{missing}`."
            severity: Severity = "error" if self._around.is_trigger_held else "warning"
            return Finding("unknown_trigger_field", message, _nearest(missing, names), severity)
        message = f"There is no `{'.'.join((scope, *parts[: found.at + 1]))}`."
        return Finding("unknown_reference", message, _nearest(missing, names))

    def _of_step(self, parts: list[str], placed: Placed, *, own: bool, printed: bool) -> Finding | None:
        name = parts[0]
        owner = self._around.owners.get(name)
        if owner is None:
            message = f"No step saves its output as `{name}`."
            return Finding("unknown_step", message, _nearest(name, self._around.owners))
        is_own = own and owner.id == placed.id
        if not is_own and not self._upstream.may_precede(owner, placed):
            message = (
                f"`steps.{name}` is the output of `{owner.id}`, which does not run before `{placed.id}`."
            )
            return Finding("step_not_upstream", message, "Name a step that leads here, or connect it.")
        return self._of_output(owner, parts) or (
            None if is_own or not printed else self._of_skipping(owner, name, placed)
        )

    def _of_output(self, owner: Placed, parts: list[str]) -> Finding | None:
        found = shapes.follow(self._around.output_of(owner), parts[1:])
        if not isinstance(found, Dead):
            return None
        if "object" not in found.holder.kinds:
            return _no_object("steps", parts, Dead(found.at + 1, found.holder))
        missing = parts[1 + found.at]
        message = f"`{owner.id}` ({owner.node.type}) outputs no `{'.'.join(parts[1 : found.at + 2])}`."
        return Finding("unknown_output_field", message, _nearest(missing, found.holder.fields))

    def _is_in_loop(self, placed: Placed) -> bool:
        return any(region.loop.kind == "each" for region in self._drawing.loops.around(placed.id))

    def _of_skipping(self, owner: Placed, name: str, placed: Placed) -> Finding | None:
        """Say that a step's output is printed where the step may not have run."""
        remedy = f"Add `| default: …`, or use it where `{owner.id}` has run for certain."
        if owner.config is not None and owner.config.disabled:
            message = f"`{owner.id}` is disabled, so `steps.{name}` is missing and fails this step."
            return Finding(
                "step_disabled", message, f"Enable `{owner.id}`, or add `| default: …`.", "warning"
            )
        if self._upstream.must_precede(owner, placed):
            return None
        message = f"`{owner.id}` may be skipped; then `steps.{name}` is missing and fails this step."
        return Finding("step_may_be_skipped", message, remedy, "warning")

    def _of_variable(self, parts: list[str], placed: Placed) -> Finding | None:
        name, setters = parts[0], self._around.setters.get(parts[0], ())
        if not setters:
            message = f"No step sets the variable `{name}`."
            return Finding("unknown_variable", message, _nearest(name, self._around.setters))
        if not any(self._upstream.may_precede(setter, placed) for setter in setters):
            message = f"`vars.{name}` is set by `{setters[0].id}`, which does not lead to `{placed.id}`."
            remedy = "Set it in a step that leads here."
            return Finding("variable_not_upstream", message, remedy, "warning")
        found = shapes.follow(self._around.variable(name), parts[1:])
        if not isinstance(found, Dead):
            return None
        if "object" not in found.holder.kinds:
            return _no_object("vars", parts, Dead(found.at + 1, found.holder))
        message = f"There is no `vars.{'.'.join(parts[: found.at + 2])}`."
        return Finding("unknown_reference", message, _nearest(parts[found.at + 1], found.holder.fields))


def shapes_at(shape: Shape, parts: Sequence[str]) -> Shape | None:
    """Follow a path into a shape; None where there is nothing."""
    found = shapes.follow(shape, parts)
    return None if isinstance(found, Dead) else found


def _no_object(scope: str, parts: Sequence[str], dead: Dead) -> Finding:
    whole = ".".join((scope, *parts[: dead.at]))
    message = f"`{whole}` is {_either(dead.holder.kinds)} and has no `{parts[dead.at]}`."
    return Finding("not_an_object", message, f"Use `{whole}` itself.")


def _either(kinds: Collection[shapes.Kind]) -> str:
    return " or ".join(noun for kind, noun in NOUNS.items() if kind in kinds)


def _leaves(parsed: rules.Rule | rules.Group | None) -> Iterator[rules.Rule]:
    if isinstance(parsed, rules.Rule):
        yield parsed
    elif parsed is not None:
        for item in parsed.items:
            yield from _leaves(item)


def _texts(value: Any) -> Iterator[tuple[Path, str]]:
    """Yield every text in a value with its place; drafts are not nested deeply (storable.DEPTH_CAP)."""
    if isinstance(value, str):
        yield (), value
    elif isinstance(value, Mapping | list | tuple):
        items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            for path, text in _texts(item):
                yield (key, *path), text


def _parts(pointer: str) -> tuple[str, ...]:
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def _nearest(name: str, names: Collection[str]) -> str:
    if len(names) > NEAREST_CAP:
        return "Check its spelling."
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"Did you mean `{close[0]}`?"
    listed = ", ".join(f"`{one}`" for one in known[:20])
    return f"There are {listed}." if listed else "There is none yet."
