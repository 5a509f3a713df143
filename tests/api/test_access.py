"""Every route as anonymous, as a stranger, without its scope and with it, from the OpenAPI document."""

import re
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.models import ExecutionStep
from tests.api.conftest import Publish, Tenant, drawing, key, speaking

pytestmark = pytest.mark.anyio

PUBLIC = {"health_live", "health_ready", "form_show", "form_submit", "hook_call"}
STEP = "01936f1e-7c3a-7bd0-8f53-2f6a1c3b9d10"
BODIES: dict[str, Any] = {
    "workflow_create": {"name": "Other"},
    "workflow_update": {"name": "Renamed"},
    "graph_update": drawing(),
    "graph_validate": drawing(),
    "form_field_create": {"field_key": "extra", "label": "Extra", "field_type": "TEXT"},
    "form_field_update": {"label": "Changed"},
    "form_fields_reorder": {"field_ids": []},
    "execution_create": {},
    "execution_rerun": {},
    "executions_cancel": {"status": "waiting"},
    "executions_rerun": {"status": "failed"},
    "workflow_simulate": {"version": 99},
    "hook_rotate": {"url": True},
    "lead_update": {"company": "Acme"},
    "webhook_endpoint_create": {"url": "https://example.com/hook"},
    "webhook_endpoint_update": {"is_enabled": False},
    "api_key_create": {"name": "another"},
    "execution_decide": {"step": STEP, "approved": True},
    "execution_signal": {"type": "PAID"},
    "workflow_clone": {},
}
NAMES_A_VERSION = ("graph_update", "workflow_version_restore")
# What takes a thing away comes last, so that the others still find it.
LAST = ("execution_cancel", "form_field_delete", "lead_delete", "webhook_endpoint_delete", "workflow_delete")


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """List (method, path, operation) of the document."""
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


@pytest.fixture
async def things(app, acme: Tenant, publish: Publish, anonymous, database) -> dict[str, str]:
    """One of everything that has an id."""
    form = await publish()
    receipt = (await anonymous.post(form.path, json={"email": "a@example.com"})).json()
    lead = (await acme.client.get("/v1/leads")).json()["data"][0]
    fields = (await acme.client.get(f"/v1/workflows/{form.workflow_id}/form-fields")).json()["data"]
    extra = {"field_key": "spare", "label": "Spare", "field_type": "TEXT"}
    spare = await acme.make(f"/v1/workflows/{form.workflow_id}/form-fields", extra)
    endpoint = await acme.make("/v1/webhook-endpoints", {"url": "https://example.com/hook"})
    made = await acme.make("/v1/api-keys", {"name": "spare"})
    assert fields
    # Event streams end with their first event.
    app.state.platform.hub.close()
    async with database.workspace(acme.workspace_id) as session:
        session.add(
            ExecutionStep(
                id=UUID(STEP),
                workspace_id=acme.workspace_id,
                execution_id=UUID(receipt["execution_id"]),
                node_id="form",
                node_type="TRIGGER_FORM",
                step_number=1,
                status="failed",
            )
        )
    return {
        "workflow_id": form.workflow_id,
        "execution_id": receipt["execution_id"],
        "step_id": STEP,
        "lead_id": lead["id"],
        "field_id": spare["id"],
        "endpoint_id": endpoint["id"],
        "api_key_id": made["id"],
        "name": "UTILITY_LOG",
        "version": "1",
        "other": "draft",
    }


async def send(
    client, method: str, path: str, operation: dict[str, Any], ids: dict[str, str], **headers: str
):
    url = re.sub(r"\{(\w+)\}", lambda match: ids[match[1]], path)
    body = BODIES.get(operation["operationId"])
    return await client.request(method, url, json=body, headers=headers)


def shown(answer) -> dict[str, Any]:
    """Give a problem without what differs by request."""
    return {key: value for key, value in answer.json().items() if key != "request_id"}


async def test_nobody_enters_without_a_valid_key(app, anonymous, things, acme: Tenant):
    for method, path, operation in operations(app.openapi()):
        if operation["operationId"] in PUBLIC:
            continue
        answer = await send(anonymous, method, path, operation, things)
        assert answer.status_code == 401, operation["operationId"]
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert shown(answer)["code"] == "unauthorized"
    for token in ("ft_", acme.token[:-1], acme.token + "x", "x" * 9000, "eyJhbGciOiJub25lIn0.e30.", "é"):
        answer = await anonymous.get("/v1/leads", headers={b"authorization": f"Bearer {token}".encode()})
        assert answer.status_code == 401, token[:20]
    assert (await anonymous.get("/v1/leads", headers={"Authorization": "Basic abc"})).status_code == 401


async def test_a_stranger_gets_the_answer_of_an_id_that_is_nowhere(app, rival: Tenant, things):
    for method, path, operation in operations(app.openapi()):
        named = set(re.findall(r"\{(\w+)\}", path)) - {"name"}
        if operation["operationId"] in PUBLIC or not named:
            continue
        nowhere = {**things, **{name: str(uuid4()) for name in named}}
        tag = {"If-Match": '"1"'}
        foreign = await send(rival.client, method, path, operation, things, **tag)
        missing = await send(rival.client, method, path, operation, nowhere, **tag)
        assert foreign.status_code == missing.status_code == 404, operation["operationId"]
        assert shown(foreign) == shown(missing)
    lists = ("/v1/leads", "/v1/workflows", "/v1/executions", "/v1/webhook-endpoints")
    for path in lists:
        assert (await rival.client.get(path)).json()["data"] == []
    assert (await rival.client.get("/v1/pipeline")).json()["data"] == []


async def test_foreign_ids_in_queries_and_bodies_find_nothing(rival: Tenant, things, publish: Publish):
    for query in (f"workflow_id={things['workflow_id']}", f"lead_id={things['lead_id']}"):
        assert (await rival.client.get(f"/v1/executions?{query}")).json()["data"] == []
    own = await rival.make("/v1/workflows", {"name": "Own"})
    await rival.graph(own["id"], drawing())
    fields = {"field_key": "email", "label": "E-mail", "field_type": "EMAIL"}
    await rival.make(f"/v1/workflows/{own['id']}/form-fields", fields)
    assert (await rival.client.post(f"/v1/workflows/{own['id']}/publish")).status_code == 200
    path = f"/v1/workflows/{own['id']}/executions"
    foreign = await rival.client.post(path, json={"lead_id": things["lead_id"]})
    missing = await rival.client.post(path, json={"lead_id": str(uuid4())})
    assert foreign.status_code == missing.status_code == 422
    assert shown(foreign) == shown(missing)
    assert shown(foreign)["errors"][0]["pointer"] == "/lead_id"


async def test_each_operation_needs_its_scope_and_no_more(app, acme: Tenant, database, things):
    listed = operations(app.openapi())
    ordered = sorted(
        listed, key=lambda one: (one[2]["operationId"] in LAST, one[2]["operationId"] == "workflow_delete")
    )
    scopes = {op["x-required-scope"] for *_, op in listed if "x-required-scope" in op}
    for method, path, operation in ordered:
        scope = operation.get("x-required-scope")
        if scope is None:
            assert operation["operationId"] in PUBLIC
            continue
        wrong = await key(
            database, acme.workspace_id, sorted(scopes - {scope, scope.replace(":read", ":write")})
        )
        async with speaking(app, wrong) as client:
            refused = await send(client, method, path, operation, things)
        assert refused.status_code == 403, operation["operationId"]
        assert scope in refused.json()["detail"]
        right = await key(database, acme.workspace_id, [scope])
        headers = {"If-Match": "*"} if operation["operationId"] in NAMES_A_VERSION else {}
        async with speaking(app, right) as client:
            allowed = await send(client, method, path, operation, things, **headers)
        # Some do not fit the state of things, but none is refused for who asks.
        assert allowed.status_code in {200, 201, 202, 204, 403, 409, 422}, operation["operationId"]
        assert allowed.status_code != 403 or operation["operationId"] == "api_key_create"


async def test_a_revoked_or_expired_key_ends_at_once(acme: Tenant, app, database):
    made = await acme.make("/v1/api-keys", {"name": "short", "scopes": ["leads:read"]})
    async with speaking(app, made["token"]) as client:
        assert (await client.get("/v1/leads")).status_code == 200
        assert (await acme.client.delete(f"/v1/api-keys/{made['id']}")).status_code == 204
        assert (await client.get("/v1/leads")).status_code == 401
    assert (await acme.client.delete(f"/v1/api-keys/{made['id']}")).status_code == 404
    listed = (await acme.client.get("/v1/api-keys")).json()["data"]
    assert "token" not in listed[0]
    assert "secret" not in str(listed)


async def test_nobody_grants_more_than_they_have(acme: Tenant, app, database):
    weak = await key(database, acme.workspace_id, ["keys:write", "leads:read"])
    async with speaking(app, weak) as client:
        for scopes in (["*"], ["leads:write"], ["workflows:read"]):
            answer = await client.post("/v1/api-keys", json={"name": "x", "scopes": scopes})
            assert answer.status_code == 403, scopes
        assert (
            await client.post("/v1/api-keys", json={"name": "x", "scopes": ["leads:read"]})
        ).status_code == 201
