"""What is known of a value before a run: which kinds it may be of, and what stands inside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

from pydantic import BaseModel

from workflows.questions import Field, FieldType

Kind = Literal["text", "number", "boolean", "date", "list", "object", "nothing"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEPTH_CAP = 12
"""Levels to which alternatives are compared; below, anything may stand."""
FIELDS_CAP = 200
"""Keys of alternatives that are told apart; with more, anything may stand there."""
_BY_TYPE: Mapping[str, Kind] = {
    "string": "text",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "list",
    "object": "object",
    "null": "nothing",
}
_BY_FIELD: Mapping[FieldType, Kind] = {
    FieldType.NUMBER: "number",
    FieldType.CHECKBOX: "boolean",
    FieldType.DATE: "date",
}


@dataclass(frozen=True, eq=False)
class Shape:
    """The kinds a value may be of; for an object what its keys hold, for a list what its items are."""

    kinds: frozenset[Kind] = frozenset(KINDS)
    fields: Mapping[str, "Shape"] = field(default_factory=dict)
    rest: "Shape | None" = None
    """What other keys hold; None: there are none."""
    items: "Shape | None" = None
    """None: of any shape."""

    @property
    def is_any(self) -> bool:
        """Tell whether nothing is known."""
        return len(self.kinds) == len(KINDS)


ANY = Shape()


@dataclass(frozen=True)
class Known:
    """What a node can be given, as far as it is known before a run."""

    trigger: Shape = ANY
    form: Shape = ANY
    """What a form of these fields answers."""
    inputs: Mapping[str, Shape] = field(default_factory=dict)
    """Of the outputs of the nodes that lead straight to it, by their ids."""


@dataclass(frozen=True)
class Dead:
    """A path leads nowhere: which of its parts is not there, and in what it was looked for."""

    at: int
    holder: Shape


def follow(shape: Shape, parts: Sequence[str]) -> Shape | Dead:
    """Say what a path leads to."""
    for number, part in enumerate(parts):
        found = _inside(shape, part)
        if found is None:
            return Dead(number, shape)
        shape = found
    return shape


def _inside(shape: Shape, part: str) -> Shape | None:
    if shape.is_any:
        return ANY
    found: list[Shape] = []
    if "object" in shape.kinds and (inner := shape.fields.get(part, shape.rest)) is not None:
        found.append(inner)
    if "list" in shape.kinds and part.isascii() and part.isdigit():
        found.append(shape.items or ANY)
    return either(found) if found else None


def of_kind(kind: Kind) -> Shape:
    """Be of one kind, of which nothing else is known."""
    return Shape(frozenset({kind}), rest=ANY if kind == "object" else None)


def of_object(fields: Mapping[str, Shape], rest: Shape | None = None) -> Shape:
    """Be an object with these keys."""
    return Shape(frozenset({"object"}), fields, rest)


def of_list(items: Shape) -> Shape:
    """Be a list."""
    return Shape(frozenset({"list"}), items=items)


def of_names(names: Iterable[str], shape: Shape) -> Shape:
    """Be an object whose keys all hold the same."""
    return of_object(dict.fromkeys(names, shape))


def of_form(fields: Sequence[Field]) -> Shape:
    """Be the answers to a form."""
    return of_object({one.field_key: of_kind(_BY_FIELD.get(one.field_type, "text")) for one in fields})


def of_value(value: Any) -> Shape:
    """Be what a config gives, whose templates may become anything."""
    if isinstance(value, str) and ("{{" in value or "{%" in value):
        return ANY
    if isinstance(value, Mapping):
        return of_object({str(key): of_value(item) for key, item in value.items()})
    if isinstance(value, list):
        return of_list(either([of_value(item) for item in value]) if value else ANY)
    return of_kind(_kind_of(value))


@cache
def of_model(model: type[BaseModel]) -> Shape:
    """Be what a model describes."""
    return of_schema(model.model_json_schema())


def of_schema(schema: Any) -> Shape:
    """Be what a JSON Schema admits; what is not understood is taken to admit anything."""
    return _Reading(schema).of(schema)


class _Reading:
    """Reads one schema; each of its parts that is referred to once, and one within itself as anything."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._referred: dict[str, Shape] = {}

    def of(self, schema: Any) -> Shape:
        if not isinstance(schema, Mapping):
            return ANY
        if isinstance(schema.get("$ref"), str):
            return self._target(schema["$ref"])
        for word in ("anyOf", "oneOf"):
            if isinstance(schema.get(word), list) and schema[word]:
                return either([self.of(one) for one in schema[word]])
        kinds = _kinds(schema)
        if not kinds:
            return ANY
        properties = schema.get("properties")
        fields = properties.items() if isinstance(properties, Mapping) else ()
        return Shape(
            kinds,
            {str(name): self.of(one) for name, one in fields},
            rest=self._rest(schema),
            items=self.of(schema["items"]) if isinstance(schema.get("items"), Mapping) else None,
        )

    def _target(self, reference: str) -> Shape:
        if reference not in self._referred:
            self._referred[reference] = ANY
            place = self._root
            for part in reference.split("/")[1:]:
                place = place.get(part) if isinstance(place, Mapping) else None
            self._referred[reference] = self.of(place)
        return self._referred[reference]

    def _rest(self, schema: Mapping[str, Any]) -> Shape | None:
        if any(word in schema for word in ("patternProperties", "allOf", "if", "dependentSchemas")):
            return ANY
        others = schema.get("additionalProperties", True)
        return None if others is False else self.of(others)


def _kinds(schema: Mapping[str, Any]) -> frozenset[Kind]:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        return frozenset(map(_kind_of, values))
    types = schema.get("type")
    names = types if isinstance(types, list) else [types]
    kinds = frozenset(_BY_TYPE[name] for name in names if isinstance(name, str) and name in _BY_TYPE)
    is_moment = schema.get("format") in ("date", "date-time")
    return kinds - {"text"} | {"date"} if is_moment and "text" in kinds else kinds


def _kind_of(value: Any) -> Kind:
    if isinstance(value, bool):
        return "boolean"
    kinds: tuple[tuple[Any, Kind], ...] = (
        (str, "text"),
        (int | float, "number"),
        (list, "list"),
        (Mapping, "object"),
    )
    return next((kind for type_, kind in kinds if isinstance(value, type_)), "nothing")


def either(shapes: Sequence[Shape], depth: int = 0) -> Shape:
    """Be one of several."""
    first, *others = shapes or [ANY]
    for other in others:
        first = _either(first, other, depth)
    return first


def _either(one: Shape, other: Shape, depth: int) -> Shape:
    if one is other:
        return one
    if one.is_any or other.is_any or depth > DEPTH_CAP:
        return ANY
    both = [each for each in (one, other) if "object" in each.kinds]
    names = dict.fromkeys(name for each in both for name in each.fields)
    if len(names) > FIELDS_CAP:
        return ANY
    rests = [each.rest for each in both if each.rest is not None]
    lists = [each.items or ANY for each in (one, other) if "list" in each.kinds]
    return Shape(
        one.kinds | other.kinds,
        {
            name: either([each.fields[name] for each in both if name in each.fields], depth + 1)
            for name in names
        },
        rest=either(rests, depth + 1) if rests else None,
        items=either(lists, depth + 1) if lists else None,
    )
