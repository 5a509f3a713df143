"""The OpenAPI document: what FastAPI derives, plus scopes and problems on every operation."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from api import errors
from api.auth import Requirement

ALWAYS = (errors.Malformed, errors.BodyTooLarge, errors.Unavailable, errors.Broken)
AUTHENTICATED = (errors.Unauthorized, errors.Forbidden)
DESCRIPTION = """
FlowTrack takes leads in and runs a workflow graph for each of them, durably.

Every request but those to public forms and hooks carries an API key: `Authorization: Bearer ft_…`.
Errors are problem documents (RFC 9457) with a stable `code`. Lists are pages: `{data, next_cursor}`.
A POST with an `Idempotency-Key` can be repeated safely.
"""


def operation_id(route: APIRoute) -> str:
    """Name an operation after its resource and verb, which is what its function is called."""
    return route.name


def install(app: FastAPI) -> None:
    """Make the app give our document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the way FastAPI documents it


def _build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        tags=app.openapi_tags,
        separate_input_output_schemas=False,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    problem = errors.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for name, ours in {**problem.pop("$defs", {}), "Problem": problem}.items():
        if name in schemas:
            raise ValueError(f"two schemas are called {name}")
        schemas[name] = ours
    for route, operation in _operations(app, document):
        _complete(route, operation)
    return _retitled(document)


def _retitled(document: dict[str, Any]) -> dict[str, Any]:
    """Call each schema by its title: generators make class names of them, and ours say too much."""
    schemas = document["components"]["schemas"]
    names = {name: schema.get("title", name) for name, schema in schemas.items()}
    if len(set(names.values())) != len(names):
        raise ValueError("two schemas have one title")
    document["components"]["schemas"] = {names[name]: schema for name, schema in schemas.items()}
    renamed: dict[str, Any] = _renamed(document, names)
    return renamed


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if isinstance(reference, str):
        path, _, name = reference.rpartition("/")
        return {**value, "$ref": f"{path}/{names.get(name, name)}"}
    return {key: _renamed(inner, names) for key, inner in value.items()}


def _operations(app: FastAPI, document: dict[str, Any]) -> Iterator[tuple[APIRoute, dict[str, Any]]]:
    for route in routes_of(app):
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                yield route, operation


def _complete(route: APIRoute, operation: dict[str, Any]) -> None:
    scope = next(scopes_of(route.dependant), None)
    kinds: list[type[errors.Refusal]] = list(ALWAYS)
    if scope is not None:
        kinds.extend(AUTHENTICATED)
        operation["security"] = [{"ApiKey": []}]
        operation["x-required-scope"] = scope
        described = operation.get("description", "")
        operation["description"] = f"{described}\n\nNeeds the scope `{scope}`.".strip()
    if "{" in route.path_format:
        kinds.append(errors.NotFound)
    if operation.get("parameters") or "requestBody" in operation:
        kinds.append(errors.Invalid)
    if "requestBody" in operation:
        kinds.extend((errors.MediaTypeRefused, errors.BodyTimeout))
    operation["responses"].pop("422", None) if errors.Invalid not in kinds else None
    for status, response in errors.responses(*kinds).items():
        known = operation["responses"].get(str(status))
        if known is None or errors.MEDIA_TYPE not in known.get("content", {}):
            operation["responses"][str(status)] = response


def scopes_of(dependant: Dependant) -> Iterator[str]:
    """Yield the scopes that a route's arguments demand."""
    if isinstance(dependant.call, Requirement):
        yield dependant.call.scope
    for inner in dependant.dependencies:
        yield from scopes_of(inner)


def routes_of(app: FastAPI) -> Iterator[APIRoute]:
    """Yield every documented route; our routers spell their paths out, wherever they are included."""
    for router in app.state.routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                yield route
