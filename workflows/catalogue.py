"""The node types as data and as a page: what `GET /v1/node-types` and docs/nodes.md are made of."""

import json
from collections.abc import Mapping
from typing import Any

from workflows import nodes
from workflows.nodetype import COMMON, NodeType

INTRO = """# Node types

Made from the registry (`workflows/nodes/`) by `make docs`; a test keeps it equal.

Every node also has: {common}.
Templates are [Liquid](https://shopify.github.io/liquid/); a value that is missing where it is printed fails
the step, unless `| default:` says what to print. Every action also has the way out `error`, taken when
`onError` is `branch`. A rule on an edge that cannot be weighed fails the step it leaves, as `bad_condition`.
"""


def describe(node_type: type[NodeType]) -> dict[str, Any]:
    """Describe a node type as the API shows it."""
    error = ("error",) if node_type.kind() == "action" else ()
    return {
        "name": node_type.name,
        "title": node_type.title,
        "summary": node_type.summary,
        "kind": node_type.kind(),
        "handles": [*node_type.named_handles, *node_type.handles, *error],
        "config_schema": node_type.Config.model_json_schema(by_alias=True),
        "output_schema": node_type.output_schema(),
        "example": node_type.example,
    }


def page() -> str:
    """Write the whole catalogue as Markdown."""
    common = ", ".join(f"`{name}`" for name in sorted(COMMON))
    sections = [_section(describe(each), each.failure) for each in nodes.types().values()]
    return "\n".join([INTRO.format(common=common), *sections])


def _section(described: Mapping[str, Any], failure: tuple[str, dict[str, Any]] | None) -> str:
    schema = described["config_schema"]
    own = {name: field for name, field in schema.get("properties", {}).items() if name not in COMMON}
    rows = [_row(name, field, name in schema.get("required", [])) for name, field in own.items()]
    table = (
        ["| Config | Takes | Default |", "| --- | --- | --- |", *rows] if rows else ["No config of its own."]
    )
    ways = ", ".join(f"`{handle}`" for handle in described["handles"]) or "none"
    example = json.dumps(described["example"], ensure_ascii=False)
    fails = f"Fails, say, as `{failure[0]}`: `{json.dumps(failure[1])}`" if failure else ""
    head = [f"## {described['name']}", "", described["summary"], "", f"Ways out: {ways}.", ""]
    output = ["", f"Output: {_output(described['output_schema'])}."]
    tail = ["", f"Example: `{example}`", *(["", fails] if fails else []), ""]
    return "\n".join([*head, *table, *output, *tail])


def _row(name: str, field: Mapping[str, Any], required: bool) -> str:
    default = "required" if required else f"`{json.dumps(field.get('default'), ensure_ascii=False)}`"
    return f"| `{name}` | {_takes(field)} | {default} |"


def _output(schema: Mapping[str, Any]) -> str:
    """Name what a step outputs; what is not always there is in brackets."""
    required = schema.get("required", ())
    fields = schema.get("properties", {}).items()
    named = (f"`{name}` ({_takes(field)})" for name, field in fields)
    marked = (one if name in required else f"[{one}]" for one, (name, _) in zip(named, fields, strict=True))
    return ", ".join(marked) or "as its config or what starts the run says"


def _takes(field: Mapping[str, Any]) -> str:
    """Name what a field takes, from its JSON Schema."""
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return ", or ".join(_takes(option) for option in field["anyOf"] if option.get("type") != "null")
    kind = str(field.get("format") or field.get("type") or field.get("$ref", "JSON").rpartition("/")[2])
    items = field.get("items")
    return f"list of {_takes(items)}" if kind == "array" and isinstance(items, Mapping) else kind


if __name__ == "__main__":
    print(page(), end="")
