"""What templates and rules name: their own mistakes, and values that cannot exist where they stand."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from workflows import conditions, rules, templates
from workflows.drawing import Drawing, Line, Placed, Spot
from workflows.nodetype import marked_values
from workflows.problems import Problem
from workflows.storable import Path

FORM = "TRIGGER_FORM"
HOOK = "TRIGGER_WEBHOOK"
PERSON = ("email", "first_name", "last_name", "name", "phone", "company", "timezone")
LEAD = frozenset({*PERSON, "id", "workflow_id", "source", "status", "created_at", "fields", "events"})
SCOPES: Mapping[str, frozenset[str]] = {
    "lead": LEAD,
    "workspace": frozenset({"id", "name", "slug", "timezone"}),
    "workflow": frozenset({"id", "name"}),
    "execution": frozenset({"id", "version"}),
    "links": frozenset({"approve", "reject", "unsubscribe"}),
}
"""What the scopes hold whose content is known before a run."""
EVERY_BARE = frozenset({"now"})
"""Bare fields that need no scope."""
NEAREST_CAP = 200
"""Names among which the nearest is looked for: the search is slow."""


def problems(drawing: Drawing, field_keys: Collection[str]) -> Iterator[Problem]:
    """Yield what is wrong with the templates and rules of every node and edge."""
    return _References(drawing, field_keys).problems()


class _References:
    def __init__(self, drawing: Drawing, field_keys: Collection[str]) -> None:
        self._drawing = drawing
        # Only a form knows beforehand what its answers will be called.
        is_form = any(trigger.node.type == FORM for trigger in drawing.triggers)
        self._field_keys = frozenset(field_keys) if is_form else None

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
            remedy = problem.remedy or "Correct the template."
            told = placed.problem(problem.code, problem.message, remedy, *path)
            yield told.model_copy(update={"line": problem.line, "column": problem.column})
        for named in sorted(templates.reads(source)):
            reason = self._reason(named, placed)
            if reason:
                yield placed.problem(*reason, *path)

    def _of_rule(
        self, spot: Spot, placed: Placed, path: Path, rule: object, *, own: bool = False
    ) -> Iterator[Problem]:
        parsed, found = rules.read(rule)
        for problem in found:
            inner = _parts(problem.pointer)
            yield spot.problem(
                problem.code, problem.message, problem.remedy or "Correct the rule.", *path, *inner
            )
        for field in sorted({leaf.field for leaf in _leaves(parsed)}):
            reason = self._reason_of_field(field, placed, own=own)
            if reason:
                yield spot.problem(*reason, *path)

    def _reason_of_field(self, field: str, placed: Placed, *, own: bool) -> tuple[str, str, str] | None:
        """Say why a rule's field cannot be found; a bare one may be an answer or the lead's own."""
        head, dot, _ = field.partition(".")
        if dot and head in conditions.SCOPES:
            return self._reason(field, placed, own=own)
        known = LEAD | EVERY_BARE
        if self._field_keys is None or head in known or head in self._field_keys:
            return None
        message = f"`{field}` is neither a field of the form nor of the lead."
        return "unknown_field", message, _nearest(head, self._field_keys | known)

    def _reason(self, path: str, placed: Placed, *, own: bool = False) -> tuple[str, str, str] | None:
        """Say why a path cannot lead to a value here; None if it may."""
        scope, *parts = path.split(".")
        if not parts:
            return None
        if scope == "steps":
            return self._reason_of_step(parts[0], placed, own=own)
        if scope in SCOPES and parts[0] not in SCOPES[scope]:
            return (
                "unknown_reference",
                f"There is no `{scope}.{parts[0]}`.",
                _nearest(parts[0], SCOPES[scope]),
            )
        if scope == "links":
            return self._reason_of_link(parts[0], placed)
        asked = parts[0] if scope == "trigger" else None
        if scope == "lead" and parts[0] == "fields" and len(parts) > 1:
            asked = parts[1]
        if asked is None or self._field_keys is None or asked in self._field_keys:
            return None
        message = f"`{path}`: the form has no field `{asked}`."
        return "unknown_form_field", message, _nearest(asked, self._field_keys)

    def _reason_of_link(self, name: str, placed: Placed) -> tuple[str, str, str] | None:
        """Say why a link may not stand here; it is a secret of whom it is sent to."""
        if placed.type is None or not placed.type.sends:
            message = f"`links.{name}` would be kept where others can read it."
            return "link_not_sent", message, "Use it in the text of a mail or in a request."
        if name == "unsubscribe":
            return None
        found = self._drawing.approvals_after(placed.id)
        if len(found) == 1:
            return None
        if not found:
            message = f"`links.{name}` has nothing to decide: no approval comes after `{placed.id}`."
            return "no_approval_ahead", message, "Connect it to a LOGIC_APPROVAL, or leave the link out."
        listed = ", ".join(f"`{one}`" for one in found)
        message = f"`links.{name}` could lead to any of {listed}."
        return "several_approvals_ahead", message, "Let one approval come first, or name its approvers."

    def _reason_of_step(self, name: str, placed: Placed, *, own: bool) -> tuple[str, str, str] | None:
        owner = self._owners.get(name)
        if owner is None:
            message = f"No step saves its output as `{name}`."
            return "unknown_step", message, _nearest(name, self._owners)
        if (own and owner.id == placed.id) or self._may_precede(owner, placed):
            return None
        message = f"`steps.{name}` is the output of `{owner.id}`, which does not run before `{placed.id}`."
        return "step_not_upstream", message, "Name a step that leads here, or connect it."

    def _may_precede(self, owner: Placed, placed: Placed) -> bool:
        order = self._order
        # On and behind a cycle there is no before; the cycle itself is told.
        if placed.id not in order or owner.id not in order:
            return True
        return bool(self._before[placed.id] >> order[owner.id] & 1)

    @cached_property
    def _owners(self) -> Mapping[str, Placed]:
        return {placed.save_as: placed for placed in self._drawing.placed if placed.runs}

    @cached_property
    def _order(self) -> Mapping[str, int]:
        return {node_id: number for number, node_id in enumerate(self._drawing.order)}

    @cached_property
    def _before(self) -> Mapping[str, int]:
        """For each node the set of those that lead to it, as bits by their place in the order."""
        before: dict[str, int] = {}
        for node_id in self._drawing.order:
            before[node_id] = 0
            for line in self._drawing.incoming[node_id]:
                source = line.edge.source
                before[node_id] |= before[source] | 1 << self._order[source]
        return before


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
