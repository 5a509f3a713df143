"""The API reference: the OpenAPI document as one page that needs no script and no network."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api import errors
from api.pages.markup import Markup, document, join, tag

router = APIRouter(include_in_schema=False)

POLICY = "default-src 'self'; script-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
A_DAY = "public, max-age=86400"


@router.get("/assets/flowtrack.css")
async def stylesheet() -> Response:
    """The one stylesheet of all pages."""
    return Response(_css(), media_type="text/css", headers={"Cache-Control": A_DAY})


@router.get("/")
async def entrance() -> Response:
    """Lead who opens the API's address to its reference."""
    return RedirectResponse("/docs", status_code=307)


@router.get("/docs")
async def reference(request: Request) -> Response:
    """The reference, by resource."""
    page = _page(request.app.openapi())
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})


@cache
def _css() -> bytes:
    return files("api.pages").joinpath("flowtrack.css").read_bytes()


def _page(schema: dict[str, Any]) -> str:
    info = schema["info"]
    body = tag(
        "main",
        tag("h1", f"{info['title']} API"),
        *_prose(info.get("description", "")),
        tag("p", "For generators: ", tag("a", "openapi.json", href="/openapi.json")),
        *(_section(name, some, schema["components"]["schemas"]) for name, some in _by_tag(schema)),
        tag("h2", "Schemas", id="schemas"),
        *(_model(name, model) for name, model in sorted(schema["components"]["schemas"].items())),
        tag("h2", "Problems", id="problems"),
        _problems(),
        class_="wide",
    )
    return document(title=f"{info['title']} API", body=body, stylesheet="/assets/flowtrack.css")


def _by_tag(schema: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, str, dict[str, Any]]]]]:
    groups: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    yield from groups.items()


def _section(name: str, operations: list[tuple[str, str, dict[str, Any]]], schemas: dict[str, Any]) -> Markup:
    return join(
        tag("h2", name.replace("-", " ").title(), id=name),
        *(_operation(*one, schemas=schemas) for one in operations),
    )


def _operation(method: str, path: str, operation: dict[str, Any], *, schemas: dict[str, Any]) -> Markup:
    heading = tag(
        "summary", tag("span", method, class_="method"), tag("code", path), " – ", operation["summary"]
    )
    return tag(
        "details",
        heading,
        *_prose(operation.get("description", "")),
        _parameters(operation.get("parameters", [])),
        _body(operation.get("requestBody"), schemas),
        _answers(operation["responses"]),
        id=operation["operationId"],
    )


def _parameters(parameters: list[dict[str, Any]]) -> Markup:
    if not parameters:
        return join()
    rows = [
        (
            p["name"],
            p["in"],
            "required" if p.get("required") else "",
            p.get("description", _kind(p["schema"])),
        )
        for p in parameters
    ]
    return join(tag("h3", "Parameters"), _table(rows))


def _parameter(one: dict[str, Any]) -> tuple[str, ...]:
    about = one.get("description") or _kind(one["schema"])
    return one["name"], one["in"], "required" if one.get("required") else "", about


def _body(body: dict[str, Any] | None, schemas: dict[str, Any]) -> Markup:
    if body is None:
        return join()
    kinds = [(media, _kind(content.get("schema", {}))) for media, content in body["content"].items()]
    return join(tag("h3", "Body"), _table(kinds), _example(body, schemas))


def _example(body: dict[str, Any], schemas: dict[str, Any]) -> Markup:
    content = body["content"].get("application/json", {})
    schema = content.get("schema", {})
    model = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    examples = [content["example"]] if "example" in content else model.get("examples", [])
    return join(*(tag("pre", json.dumps(one, indent=2, ensure_ascii=False)) for one in examples[:1]))


def _answers(responses: dict[str, Any]) -> Markup:
    rows = [
        (status, answer.get("description", ""), *(_kind(c.get("schema", {})) for c in _contents(answer)))
        for status, answer in sorted(responses.items())
    ]
    return join(tag("h3", "Answers"), _table([row if len(row) > 2 else (*row, "") for row in rows]))


def _contents(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return list(answer.get("content", {}).values())[:1]


def _model(name: str, model: dict[str, Any]) -> Markup:
    required = set(model.get("required", ()))
    rows = [
        (key, _kind(value), "required" if key in required else "", value.get("description", ""))
        for key, value in model.get("properties", {}).items()
    ]
    about = _prose(model.get("description", ""))
    return tag("details", tag("summary", tag("code", name)), *about, _table(rows), id=f"schema-{name}")


def _kind(schema: dict[str, Any]) -> Markup:
    """Name a type in one line, linked to its model."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return tag("a", name, href=f"#schema-{name}")
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            kinds = [_kind(one) for one in schema[key]]
            return join(kinds[0], *(join(" or ", kind) for kind in kinds[1:]))
    if "enum" in schema:
        return join(", ".join(map(str, schema["enum"])))
    if schema.get("type") == "array":
        return join("list of ", _kind(schema.get("items", {})))
    return join(str(schema.get("format") or schema.get("type") or "any"))


def _problems() -> Markup:
    rows = [
        tag(
            "tr",
            tag("td", tag("code", kind.code)),
            tag("td", str(kind.status)),
            tag("td", (kind.__doc__ or "").strip()),
            id=f"problem-{kind.code}",
        )
        for kind in errors.kinds()
    ]
    return tag("table", tag("tbody", *rows))


def _prose(text: str) -> list[Markup]:
    """Show a description; what stands between backticks is code."""
    return [
        tag("p", *(tag("code", part) if number % 2 else part for number, part in enumerate(block.split("`"))))
        for block in text.split("\n\n")
        if block.strip()
    ]


def _table(rows: Sequence[tuple[str, ...]]) -> Markup:
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("table", tag("tbody", *body)) if body else join()
