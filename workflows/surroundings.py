"""What stands in the scopes when a node runs, as far as it is known before: names, and what they lead to."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from workflows import shapes
from workflows.drawing import Drawing, Line, Placed
from workflows.loops import EACH
from workflows.questions import Field
from workflows.shapes import ANY, Known, Shape
from workflows.upstream import in_order

FORM = "TRIGGER_FORM"
HOOK = "TRIGGER_WEBHOOK"
PERSON = ("email", "first_name", "last_name", "name", "phone", "company", "timezone")
_TEXT = shapes.of_kind("text")
ERROR = shapes.of_object({"error": shapes.of_names(("type", "message"), _TEXT)})
"""What a step outputs that failed and went on all the same."""
FIXED: Mapping[str, Shape] = {
    "workspace": shapes.of_names(("id", "name", "slug", "timezone"), _TEXT),
    "workflow": shapes.of_names(("id", "name"), _TEXT),
    "execution": shapes.of_object({"id": _TEXT, "version": shapes.of_kind("number")}),
    "links": shapes.of_names(("approve", "reject", "unsubscribe"), _TEXT),
    "loop": shapes.of_object(
        {"item": ANY, "index": shapes.of_kind("number"), "count": shapes.of_kind("number"), "outer": ANY}
    ),
}


class Surroundings:
    """The scopes of one drawing."""

    def __init__(self, drawing: Drawing, fields: Sequence[Field]) -> None:
        self._drawing = drawing
        # Only a form knows beforehand what its answers will be called.
        self.is_form = any(trigger.node.type == FORM for trigger in drawing.triggers)
        self.field_keys = frozenset(field.field_key for field in fields) if self.is_form else None
        self._fields = fields

    @cached_property
    def trigger(self) -> Shape:
        """What started the run."""
        if len(self._drawing.triggers) != 1:
            return self._known.form if self.is_form else ANY
        return self.output_of(self._drawing.triggers[0])

    @property
    def is_trigger_held(self) -> bool:
        """Tell whether trigger data cannot be otherwise: what only comes so by itself may differ by hand."""
        return all(one.type is not None and one.type.Output is None for one in self._drawing.triggers)

    @cached_property
    def has_lead(self) -> bool:
        """Tell whether a run may have a lead, unless somebody starts it by hand."""
        known = [one for one in self._drawing.triggers if one.type and one.config]
        return not known or any(one.type.brings_lead(one.config) for one in known if one.type)

    @cached_property
    def lead(self) -> Shape:
        """The lead of the run."""
        # An answer is kept as text, whatever the question was.
        answers = ANY if self.field_keys is None else shapes.of_names(self.field_keys, _TEXT)
        texts = dict.fromkeys((*PERSON, "id", "workflow_id", "source", "status"), _TEXT)
        kept = {"created_at": shapes.of_kind("date"), "events": shapes.of_list(_TEXT), "fields": answers}
        return shapes.of_object({**texts, **kept})

    @cached_property
    def owners(self) -> Mapping[str, Placed]:
        """Who saves its output under which name."""
        return {placed.save_as: placed for placed in self._drawing.placed if placed.runs}

    @cached_property
    def setters(self) -> Mapping[str, Sequence[Placed]]:
        """Who sets which variable."""
        found: dict[str, list[Placed]] = {}
        for placed in self._drawing.placed:
            for name in _variables(placed):
                found.setdefault(name, []).append(placed)
        return found

    def variable(self, name: str) -> Shape:
        """What a variable may hold."""
        return shapes.either([_variables(placed)[name] for placed in self.setters.get(name, ())])

    def scope(self, name: str) -> Shape:
        """What stands under one of the scopes that are the same for every node."""
        return {"trigger": self.trigger, "lead": self.lead, **FIXED}.get(name, ANY)

    def output_of(self, placed: Placed) -> Shape:
        """What a step outputs; where its config is wrong, that may be anything."""
        return self._outputs[placed.id]

    @cached_property
    def _known(self) -> Known:
        return Known(form=shapes.of_form(self._fields))

    @cached_property
    def _outputs(self) -> Mapping[str, Shape]:
        found: dict[str, Shape] = {}
        for node_id in in_order(self._drawing):
            inputs = {line.edge.source: self._given(line, found) for line in self._drawing.incoming[node_id]}
            known = Known(form=self._known.form, inputs=inputs)
            found[node_id] = _output(self._drawing.by_id[node_id], known)
        return found

    def _given(self, line: Line, found: Mapping[str, Shape]) -> Shape:
        """What a node finds of the one before it; what comes round a circle is not known yet."""
        shape = found.get(line.edge.source, ANY)
        if line.edge.source_handle != EACH or line.edge.source not in self._drawing.loops.regions:
            return shape
        # An item begins before its loop has ended; around that loop there may be one that ended before.
        return shapes.either([shape, shapes.of_kind("nothing")])


def _output(placed: Placed, known: Known) -> Shape:
    if placed.type is None or placed.config is None:
        return ANY
    own = placed.type.outputs(placed.config, known)
    goes_on = placed.config.on_error != "fail" and placed.type.recovers
    return shapes.either([own, ERROR]) if goes_on else own


def _variables(placed: Placed) -> Mapping[str, Shape]:
    if placed.type is None or placed.config is None:
        return {}
    return placed.type.variables(placed.config)
