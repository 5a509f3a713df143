"""Reading a node's config: what pydantic says is wrong with it, in the words of the person who wrote it."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from workflows.nodetype import NodeConfig, NodeType

SHOWN_CAP = 60
WANTED = {
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "uuid_parsing": "an id (UUID)",
    "uuid_type": "an id (UUID)",
}


class Flaw(NamedTuple):
    """One thing wrong with a config; the path begins inside it."""

    code: str
    path: tuple[str | int, ...]
    message: str
    remedy: str


def read(node_type: type[NodeType], raw: Mapping[str, Any]) -> tuple[NodeConfig | None, list[Flaw]]:
    """Read a config by its type; None and the flaws if it does not fit."""
    try:
        return node_type.Config.model_validate(raw), []
    except ValidationError as error:
        return None, list(_once_each(_flaw(node_type, raw, detail) for detail in error.errors()))


def _once_each(flaws: Iterable[Flaw]) -> Iterable[Flaw]:
    """Keep the first flaw of each place: a union complains once for each of its members."""
    seen: set[tuple[str | int, ...]] = set()
    for flaw in flaws:
        if flaw.path not in seen:
            seen.add(flaw.path)
            yield flaw


def _flaw(node_type: type[NodeType], raw: Mapping[str, Any], detail: ErrorDetails) -> Flaw:
    kind, path = detail["type"], _path(raw, detail)
    name = ".".join(map(str, path)) or "config"
    if kind == "missing":
        return Flaw("config_missing", path, f"`{name}` is missing.", _example(node_type, path))
    if kind == "extra_forbidden":
        owner = node_type.Config if len(path) == 1 else None
        return Flaw(
            "config_unknown_key", path, f"{node_type.name} has no setting `{name}`.", _known(owner, path)
        )
    if kind == "literal_error":
        message = f"`{name}` is {detail['ctx']['expected']}, not {_shown(detail['input'])}."
        return Flaw("config_invalid", path, message, "Choose one of them.")
    if kind in WANTED:
        message = f"`{name}` must be {WANTED[kind]}, not {_shown(detail['input'])}."
        return Flaw("config_invalid", path, message, _example(node_type, path))
    said = detail["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    return Flaw("config_invalid", path, f"`{name}`: {said}", _example(node_type, path))


def _path(raw: Mapping[str, Any], detail: ErrorDetails) -> tuple[str | int, ...]:
    """Follow pydantic's location in the config as written; what is not in it names a union's member."""
    value: Any = raw
    path: list[str | int] = []
    last = len(detail["loc"]) - 1
    for number, part in enumerate(detail["loc"]):
        is_absent = detail["type"] == "missing" and number == last
        if isinstance(value, Mapping) and isinstance(part, str) and (part in value or is_absent):
            value = value.get(part)
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _known(owner: type[BaseModel] | None, path: tuple[str | int, ...]) -> str:
    if owner is None or not path:
        return "Remove it."
    names = [info.alias or name for name, info in owner.model_fields.items()]
    close = difflib.get_close_matches(str(path[-1]), names, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Remove it; there are {', '.join(names)}."


def _example(node_type: type[NodeType], path: tuple[str | int, ...]) -> str:
    """Show how the type's own example says it."""
    value: Any = node_type.example
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return "Set it as the node type's description says."
        value = value[part]
    return f"For example: {json.dumps(value, ensure_ascii=False)[:200]}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CAP else f"{text[:SHOWN_CAP]}…"
