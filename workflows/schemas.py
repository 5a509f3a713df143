"""JSON Schema as a tenant writes it: checked, its references followed, and asked of what arrives.

A schema may refer to its own parts, but neither to other documents, which would have to be fetched, nor in a
circle. What is asked of data has no references left, so the work is bounded by the sizes of both, and refused
where it would keep others waiting.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs

from workflows.storable import Path

PARTS_CAP = 1_000
"""Schemas within one schema, once its references are followed."""
DEEP_CAP = 32
"""References that one may pass through on the way to what is meant."""
CHECKS_CAP = 1_000_000
"""What asking may cost: the values in the schema, its references followed, times those in the data."""
LISTED_CAP = 10_000
"""Up to this cost all that is wrong is told: telling takes far longer than finding out."""
COMPLAINTS_CAP = 50
WRONG = "Something in it does not follow its schema; it is too large to say what."
MESSAGE_CAP = 300
PATTERN_CAP = 1_000_000
"""Bytes that a compiled pattern may take."""
ONE = (
    *("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED = ("dependentSchemas", "patternProperties", "properties")
DROPPED = frozenset({"$anchor", "$comment", "$defs", "$id", "$schema", "definitions"})
"""Where things are named to be referred to: nothing needs it once the references are followed."""
REFUSED = frozenset({"$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "$vocabulary"})
LOCAL = re.compile(r"#(?:/.*)?")
_META = jsonschema_rs.Draft202012Validator(
    {"$ref": "https://json-schema.org/draft/2020-12/schema"}, offline=True
)


class Complaint(NamedTuple):
    """What is wrong, and where."""

    path: Path
    message: str


class Unusable(ValueError):
    """A schema that cannot be followed."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message


def complaints(schema: Mapping[str, Any]) -> list[Complaint]:
    """List what is wrong with a schema."""
    plain = {key: value for key, value in schema.items() if key not in ("$id", "$schema")}
    found = _found(_META, plain, cost=size_of(plain))
    if found:
        return found
    try:
        _validator(followed(schema))
    except Unusable as error:
        return [Complaint(_known(schema, error.path), error.message)]
    return []


def check(schema: Mapping[str, Any], data: Any) -> list[Complaint]:
    """List what is wrong with data; raises Unusable for a schema that has complaints itself."""
    plain = followed(schema)
    cost = size_of(plain) * size_of(data)
    if cost > CHECKS_CAP:
        message = "The data and the schema together are too large to be checked: make one of them smaller."
        return [Complaint((), message)]
    return _found(_validator(plain), data, cost=cost)


def followed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Write a schema without references; raises Unusable where that cannot be done."""
    made: dict[str, Any] = _Following(schema).of(schema, (), ())
    return made


def size_of(data: Any) -> int:
    """Count the values in JSON, and long texts as several."""
    size, left = 0, [data]
    while left:
        value = left.pop()
        size += 1
        if isinstance(value, Mapping):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, str):
            size += len(value) // 100
    return size


def _found(validator: jsonschema_rs.Draft202012Validator, data: Any, *, cost: int) -> list[Complaint]:
    if cost <= LISTED_CAP:
        return list(islice(map(_complaint, validator.iter_errors(data)), COMPLAINTS_CAP))
    # Even the first error may be made of all that every branch of an `anyOf` has to say.
    return [] if validator.is_valid(data) else [Complaint((), WRONG)]


def _validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    # The plain engine: a pattern takes time in proportion to the text, whatever the pattern is.
    options = jsonschema_rs.RegexOptions(size_limit=PATTERN_CAP)
    try:
        return jsonschema_rs.Draft202012Validator(
            schema, pattern_options=options, validate_formats=True, offline=True
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        path = error.instance_path if isinstance(error, jsonschema_rs.ValidationError) else ()
        message = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
        raise Unusable(tuple(path), _shortened(message)) from error


class _Following:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._parts = 0

    def of(self, schema: Any, path: Path, via: tuple[str, ...]) -> Any:
        if not isinstance(schema, Mapping):
            return schema
        self._parts += 1
        if self._parts > PARTS_CAP:
            raise Unusable((), f"the schema has more than {PARTS_CAP} parts, its references followed")
        refused = sorted(REFUSED & schema.keys())
        if refused:
            raise Unusable((*path, refused[0]), f"{refused[0]} is not supported")
        own = {key: value for key, value in schema.items() if key != "$ref" and key not in DROPPED}
        made = {key: self._inside(key, value, (*path, key), via) for key, value in own.items()}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return made
        target = self._target(reference, (*path, "$ref"), via)
        return {**made, "allOf": [*made.get("allOf", ()), target]} if made else target

    def _inside(self, key: str, value: Any, path: Path, via: tuple[str, ...]) -> Any:
        if key in ONE:
            return self.of(value, path, via)
        if key in LISTED and isinstance(value, list):
            return [self.of(one, (*path, number), via) for number, one in enumerate(value)]
        if key in NAMED and isinstance(value, Mapping):
            return {name: self.of(one, (*path, name), via) for name, one in value.items()}
        return value

    def _target(self, reference: str, path: Path, via: tuple[str, ...]) -> Any:
        if not LOCAL.fullmatch(reference):
            raise Unusable(path, "a reference may only lead to a part of this schema, such as #/$defs/name")
        if len(via) == DEEP_CAP:
            raise Unusable(path, f"a reference may lead through at most {DEEP_CAP} others")
        if reference in via:
            raise Unusable(path, "the reference leads back to itself; write down how deep it may nest")
        place: Any = self._root
        parts = [part.replace("~1", "/").replace("~0", "~") for part in reference.split("/")[1:]]
        for part in parts:
            place = place.get(part) if isinstance(place, Mapping) else None
        if not isinstance(place, Mapping | bool):
            raise Unusable(path, f"there is nothing at {reference[:100]}")
        return self.of(place, tuple(parts), (*via, reference))


def _complaint(error: jsonschema_rs.ValidationError) -> Complaint:
    kind = error.kind
    path = tuple(error.instance_path)
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        path = (*path, kind.property)
    elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        path = (*path, kind.unexpected[0])
    return Complaint(path, _shortened(error.message))


def _known(document: Any, path: Iterable[str | int]) -> Path:
    """Keep of a path what leads somewhere: where a reference was followed, the rest stands elsewhere."""
    return tuple(_steps(document, path))


def _steps(document: Any, path: Iterable[str | int]) -> Iterator[str | int]:
    for part in path:
        is_key = isinstance(document, Mapping) and part in document
        is_index = isinstance(document, list) and isinstance(part, int) and part < len(document)
        if not (is_key or is_index):
            return
        document = document[part]
        yield part


def _shortened(message: str) -> str:
    return message if len(message) <= MESSAGE_CAP else f"{message[:MESSAGE_CAP]}…"
