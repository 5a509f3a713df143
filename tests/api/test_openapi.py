"""The OpenAPI document: complete enough to generate a client from, and the page that shows it."""

import json
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api import errors
from tests.api.test_access import operations

pytestmark = pytest.mark.anyio


async def test_every_operation_is_named_described_and_owns_up_to_its_problems(app: FastAPI):
    document = app.openapi()
    seen: set[str] = set()
    for _, path, operation in operations(document):
        name = operation["operationId"]
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name), name
        assert name not in seen
        seen.add(name)
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        answers = operation["responses"]
        assert {"400", "500", "503"} <= answers.keys(), name
        for status, answer in answers.items():
            if status >= "400":
                schema = answer["content"][errors.MEDIA_TYPE]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (name, status)
        if path.startswith("/v1"):
            assert operation["security"] == [{"ApiKey": []}], name
            assert ":" in operation["x-required-scope"], name
            assert {"401", "403"} <= answers.keys(), name
        if "{" in path:
            assert "404" in answers, name
        if "requestBody" in operation:
            assert {"413", "415", "422"} <= answers.keys(), name


async def test_every_body_has_an_example_and_every_model_a_title(app: FastAPI):
    document = app.openapi()
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        assert "_" not in name, name
        assert schema.get("title"), name
        assert schema.get("description"), name
    for _, _, operation in operations(document):
        body = operation.get("requestBody")
        if body is None:
            continue
        content = body["content"]["application/json"]
        schema = content["schema"]
        model = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        shown = content.get("example") or model.get("examples") or _all_have_examples(model)
        assert shown, operation["operationId"]


def _all_have_examples(model: dict[str, Any]) -> bool:
    return all("examples" in value for value in model["properties"].values())


async def test_every_reference_leads_somewhere(app: FastAPI):
    document = app.openapi()
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert references
    for reference in references:
        place: Any = document
        for part in reference.split("/"):
            assert part in place, reference
            place = place[part]


async def test_the_reference_page_needs_no_script_and_no_network(anonymous: httpx.AsyncClient):
    page = await anonymous.get("/docs")
    assert page.status_code == 200
    assert "<script" not in page.text
    assert set(re.findall(r'(?:src|href)="(https?:[^"]*)"', page.text)) == set()
    for name in ("workflow_publish", "problem-stale_version", "schema-Execution"):
        assert f'id="{name}"' in page.text
    assert "script-src 'none'" in page.headers["content-security-policy"]
    style = await anonymous.get("/assets/flowtrack.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "@import" not in style.text
    assert "url(" not in style.text
