"""A run by hand brings what the workflow's inputSchema asks for."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from tests.api.conftest import Tenant, count, drawing

pytestmark = pytest.mark.anyio

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"budget": {"type": "number"}, "lines": {"type": "array", "items": {"type": "string"}}},
    "required": ["budget"],
}


def manual(schema: Any) -> dict[str, Any]:
    graph = drawing(inputSchema=schema)
    graph["nodes"][0]["type"] = "TRIGGER_MANUAL"
    return graph


async def test_trigger_data_is_held_against_the_published_schema(acme: Tenant, database):
    workflow = await acme.make("/v1/workflows", {"name": "By hand"})
    path = f"/v1/workflows/{workflow['id']}"
    await acme.graph(workflow["id"], manual(SCHEMA))
    assert (await acme.client.post(f"{path}/publish")).status_code == 200
    key = {"Idempotency-Key": "one"}
    wrong: dict[str, Any] = {"trigger_data": {"lines": ["a", 5]}}
    refused = await acme.client.post(f"{path}/executions", json=wrong, headers=key)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    told = {(e["code"], e["pointer"], e["field"]) for e in refused.json()["errors"]}
    assert told == {
        ("schema_mismatch", "/trigger_data/budget", "budget"),
        ("schema_mismatch", "/trigger_data/lines/1", "1"),
    }
    assert await count(database, acme.workspace_id, "workflow_executions") == 0
    started = await acme.client.post(
        f"{path}/executions", json={"trigger_data": {"budget": 5}}, headers={"Idempotency-Key": "two"}
    )
    assert started.status_code == 202
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text("UPDATE workflow_executions SET status = 'completed'"))
    rerun = f"/v1/executions/{started.json()['id']}/rerun"
    refused = await acme.client.post(rerun, json={"trigger_data": {"lines": []}})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "schema_mismatch")
    assert (await acme.client.post(rerun, json={"trigger_data": {"budget": 6}})).status_code == 202


async def test_a_schema_that_is_none_is_not_published(acme: Tenant):
    workflow = await acme.make("/v1/workflows", {"name": "By hand"})
    saved = await acme.graph(workflow["id"], manual({"properties": {"a": {"type": "strin"}}}))
    assert saved.status_code == 200
    refused = await acme.client.post(f"/v1/workflows/{workflow['id']}/publish")
    [error] = refused.json()["errors"]
    assert (refused.status_code, error["code"]) == (422, "bad_input_schema")
    assert error["pointer"] == "/nodes/0/data/config/inputSchema/properties/a/type"


async def test_a_schema_published_before_it_was_checked_is_told(acme: Tenant, database):
    workflow = await acme.make("/v1/workflows", {"name": "By hand"})
    path = f"/v1/workflows/{workflow['id']}"
    await acme.graph(workflow["id"], manual(SCHEMA))
    await acme.client.post(f"{path}/publish")
    trigger = {"id": "form", "type": "TRIGGER_MANUAL", "config": {"inputSchema": {"$ref": "#"}}}
    old = (
        "INSERT INTO workflow_versions (workspace_id, id, workflow_id, version, content_hash, graph)"
        " SELECT workspace_id, gen_random_uuid(), workflow_id, 2, '', CAST(:graph AS jsonb)"
        " FROM workflow_versions"
    )
    current = (
        "UPDATE workflows SET published_version_id = (SELECT id FROM workflow_versions WHERE version = 2)"
    )
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text(old), {"graph": json.dumps({"nodes": [trigger], "edges": []})})
        await session.execute(text(current))
    answer = await acme.client.post(f"{path}/executions", json={"trigger_data": {}})
    assert (answer.status_code, answer.json()["code"]) == (409, "bad_input_schema")
