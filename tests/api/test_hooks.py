"""A workflow's hook: who may call it, what a call leaves behind, and that it counts once."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook

from activities.clients import signatures
from tests.api.conftest import Tenant, count
from tests.budgets.counting import Wire

pytestmark = pytest.mark.anyio

FIELDS = [
    {"field_key": "email", "label": "E-mail", "field_type": "EMAIL", "is_required": True},
    {"field_key": "budget", "label": "Budget", "field_type": "NUMBER"},
    {"field_key": "plan", "label": "Plan", "field_type": "DROPDOWN", "options": ["basic", "pro"]},
    {"field_key": "ref", "label": "Reference", "field_type": "TEXT"},
]
BODY = {
    "id": "evt_1",
    "contact": {"email": "Ada@Example.com", "first": "Ada"},
    "deals": [{"amount": 5000, "plan": "pro", "ref": 17}],
}
MAPPED: dict[str, Any] = {
    "emailPath": "contact.email",
    "idempotencyPath": "id",
    "fieldMap": {
        "first_name": "contact.first",
        "budget": "deals.0.amount",
        "plan": "deals.0.plan",
        "ref": "deals.0.ref",
        "phone": "contact.phone",
    },
}


@dataclass
class Hook:
    """A published hook."""

    workflow_id: str
    path: str


Make = Callable[..., Awaitable[Hook]]


def drawing(**config: Any) -> dict[str, Any]:
    """Draw a hook that logs a line."""
    nodes = [
        {"id": "hook", "type": "TRIGGER_WEBHOOK", "data": {"config": config}},
        {"id": "log", "type": "UTILITY_LOG", "data": {"config": {"message": "hello"}}},
    ]
    placed = [{**node, "position": {"x": 0, "y": 0}} for node in nodes]
    return {"nodes": placed, "edges": [{"id": "e", "source": "hook", "target": "log"}], "viewport": {}}


@pytest.fixture
def make(acme: Tenant) -> Make:
    async def made(**config: Any) -> Hook:
        workflow = await acme.make("/v1/workflows", {"name": "Hook"})
        for field in FIELDS:
            await acme.make(f"/v1/workflows/{workflow['id']}/form-fields", field)
        drawn = drawing(**config) | {"viewport": {"x": 0, "y": 0, "zoom": 1}}
        saved = await acme.graph(workflow["id"], drawn)
        assert saved.status_code == 200, saved.text
        published = await acme.client.post(f"/v1/workflows/{workflow['id']}/publish")
        assert published.status_code == 200, published.text
        shown = (await acme.client.get(f"/v1/workflows/{workflow['id']}/hook")).json()
        return Hook(workflow["id"], urlsplit(shown["url"]).path)

    return made


async def secret_of(acme: Tenant, hook: Hook) -> str:
    """Make a new secret."""
    made: str = (await acme.make(f"/v1/workflows/{hook.workflow_id}/hook/rotate", {}, 200))["secret"]
    return made


def signed(secret: str, body: bytes, *, at: float | None = None, message_id: str = "msg_1") -> dict[str, str]:
    """Sign as Standard Webhooks do."""
    moment = int(time.time() if at is None else at)
    headers = signatures.headers(message_id, moment, body, secrets=[secret])
    return {**headers, "content-type": "application/json"}


async def test_a_call_leaves_lead_answers_event_run_and_usage(make: Make, anonymous, acme, database, starter):
    hook = await make(**MAPPED)
    answer = await anonymous.post(hook.path, json=BODY)
    assert answer.status_code == 202, answer.text
    execution_id = answer.json()["execution_id"]
    run = (await acme.client.get(f"/v1/executions/{execution_id}")).json()
    assert (run["status"], run["trigger_type"], run["trigger_data"]) == ("queued", "WEBHOOK", BODY)
    lead = (await acme.client.get(f"/v1/leads/{run['lead_id']}")).json()
    assert (lead["email"], lead["first_name"], lead["source"]) == ("ada@example.com", "Ada", "webhook")
    assert lead["fields"] == {"budget": "5000", "plan": "pro", "ref": "17"}
    (noted,) = (await acme.client.get(f"/v1/leads/{lead['id']}/events")).json()["data"]
    assert noted["event_type"] == "WEBHOOK_RECEIVED"
    assert noted["triggered_by_workflow_execution_id"] == execution_id
    assert await count(database, acme.workspace_id, "usage_events") == 1
    assert [str(one) for one in starter.started] == [execution_id]


async def test_a_call_waits_for_the_database_at_most_ten_times(make: Make, anonymous, database):
    hook = await make(**MAPPED)
    with Wire().traced(database) as wire:
        answer = await anonymous.post(hook.path, json=BODY)
    assert answer.status_code == 202
    assert wire.trips <= 10


async def test_without_an_address_there_is_a_run_and_no_lead(make: Make, anonymous, acme, database):
    hook = await make(**MAPPED)
    for number, contact in enumerate(({}, {"email": "nobody"}, {"email": 7}, {"email": None})):
        answer = await anonymous.post(hook.path, json={"id": number, "contact": contact})
        assert answer.status_code == 202, answer.text
        run = (await acme.client.get(f"/v1/executions/{answer.json()['execution_id']}")).json()
        assert run["lead_id"] is None
    assert await count(database, acme.workspace_id, "leads") == 0
    assert await count(database, acme.workspace_id, "workflow_executions") == 4


async def test_what_fits_no_field_is_noted_and_costs_no_lead(make: Make, anonymous, acme):
    hook = await make(**MAPPED)
    deal = {"amount": "a lot", "plan": "golden", "ref": {"a": 1}}
    answer = await anonymous.post(hook.path, json={**BODY, "deals": [deal]})
    run = (await acme.client.get(f"/v1/executions/{answer.json()['execution_id']}")).json()
    lead = (await acme.client.get(f"/v1/leads/{run['lead_id']}")).json()
    assert lead["fields"] == {}
    (noted,) = (await acme.client.get(f"/v1/leads/{lead['id']}/events")).json()["data"]
    assert noted["metadata"]["refused"] == {
        "budget": "invalid_number",
        "plan": "invalid_option",
        "ref": "wrong_type",
    }


async def test_an_equal_value_in_parallel_is_one_run_and_one_answer(
    make: Make, anonymous, acme, database, starter
):
    hook = await make(**MAPPED)
    # A sender may count its attempts in the body.
    bodies = [{**BODY, "attempt": number} for number in range(20)]
    answers = await asyncio.gather(*(anonymous.post(hook.path, json=body) for body in bodies))
    assert {a.status_code for a in answers} == {202}
    assert len({a.text for a in answers}) == 1
    assert sum("idempotent-replayed" not in a.headers for a in answers) == 1
    for table in ("leads", "workflow_executions", "lead_events", "usage_events"):
        assert await count(database, acme.workspace_id, table) == 1
    assert len(starter.started) == 1
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text("UPDATE idempotency_keys SET expires_at = now() - interval '1 hour'"))
    late = await anonymous.post(hook.path, json=BODY)
    assert late.json() == answers[0].json()
    assert await count(database, acme.workspace_id, "workflow_executions") == 1


async def test_calls_without_a_name_each_count(make: Make, anonymous, acme, database):
    hook = await make()
    for _ in range(3):
        assert (await anonymous.post(hook.path, json=BODY)).status_code == 202
    for _ in range(2):
        headers = {"Idempotency-Key": "once"}
        assert (await anonymous.post(hook.path, json=BODY, headers=headers)).status_code == 202
    assert await count(database, acme.workspace_id, "workflow_executions") == 4


async def test_a_right_signature_comes_in_and_names_its_message(make: Make, anonymous, acme, database):
    hook = await make(auth="hmac")
    secret = await secret_of(acme, hook)
    body = json.dumps(BODY).encode()
    from_library = Webhook(secret).sign("msg_2", datetime.now(UTC), body.decode())
    headers = {
        "webhook-id": "msg_2",
        "webhook-timestamp": str(int(datetime.now(UTC).timestamp())),
        "webhook-signature": f"v1,AAAA {from_library}",
        "content-type": "application/json",
    }
    for given in (signed(secret, body), signed(secret, body), headers):
        answer = await anonymous.post(hook.path, content=body, headers=given)
        assert answer.status_code == 202, answer.text
    assert await count(database, acme.workspace_id, "workflow_executions") == 2
    assert (await anonymous.post(hook.path, content=body, headers=ours(secret, body))).status_code == 202


def ours(secret: str, body: bytes, *, at: float | None = None) -> dict[str, str]:
    """Sign the shorter way."""
    moment = str(int(time.time() if at is None else at))
    digest = hmac.digest(secret.encode(), f"{moment}.".encode() + body, "sha256").hex()
    return {"x-flowtrack-signature": f"t={moment},v1={digest}", "content-type": "application/json"}


async def test_a_forged_or_absent_signature_is_refused_and_leaves_no_row(
    make: Make, anonymous, acme, database
):
    hook = await make(auth="hmac", **MAPPED)
    secret = await secret_of(acme, hook)
    body = json.dumps(BODY).encode()
    right, other = signed(secret, body), signatures.generate()
    signature = right["webhook-signature"]
    forged: list[dict[str, str]] = [
        {},
        signed(other, body),
        signed(secret, body + b" "),
        signed(secret, body, at=time.time() - 301),
        signed(secret, body, at=time.time() + 302),
        ours(other, body),
        ours(secret, body + b" "),
        ours(secret, body, at=time.time() - 301),
        {**ours(secret, body), **signed(other, body)},
        {**ours(other, body), **right},
        {"webhook-signature": signature},
        *(
            {**right, "webhook-signature": wrong}
            for wrong in (
                *("", "v1,", ",,,", "v1,====", "v1,a", signature[:-1], signature[:20]),
                *(signature.replace("v1,", "v0,"), signature.replace("v1,", "v1a,"), "é"),
            )
        ),
        *(
            {**right, "webhook-timestamp": wrong}
            for wrong in ("nan", "inf", "1e9", "12_3", "1.5", "-1", "１２", "9" * 30, "")
        ),
        {**right, "webhook-id": "a.b"},
        *({"x-flowtrack-signature": wrong} for wrong in ("", "t=,v1=", "t=1", "sha256=ab", "t=nan,v1=00")),
        {"authorization": f"Bearer {secret}"},
    ]
    for headers in forged:
        raw = {k: v.encode("utf-8") for k, v in headers.items()} | {"content-type": b"application/json"}
        answer = await anonymous.post(hook.path, content=body, headers=raw)
        assert answer.status_code == 401, headers
        assert answer.json()["code"] == "caller_unproved"
    twice = [*right.items(), ("webhook-id", "msg_1")]
    assert (await anonymous.post(hook.path, content=body, headers=twice)).status_code == 401
    for table in ("leads", "workflow_executions", "lead_events", "usage_events"):
        assert await count(database, acme.workspace_id, table) == 0


async def test_a_token_is_asked_for_and_rotates_with_an_overlap(make: Make, anonymous, acme, database):
    hook = await make(auth="token")
    former, current = await secret_of(acme, hook), await secret_of(acme, hook)

    async def call(secret: str) -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        answer = await anonymous.post(hook.path, json=BODY, headers=headers)
        return int(answer.status_code)

    assert [await call(one) for one in (former, current, "", current[:-1], acme.token)] == [
        *(202, 202),
        *(401, 401, 401),
    ]
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text("UPDATE workflow_hooks SET previous_secret_expires_at = now()"))
    assert [await call(one) for one in (former, current)] == [401, 202]
    stored = str(await rows(database, acme))
    assert current not in stored
    assert hook.path.rpartition("/")[2] not in stored


async def rows(database, acme: Tenant) -> list[Any]:
    async with database.workspace(acme.workspace_id) as session:
        return list((await session.execute(text("SELECT * FROM workflow_hooks"))).all())


async def test_only_an_active_or_paused_workflow_with_a_secret_has_a_hook(
    make: Make, anonymous, acme, starter
):
    hook = await make(auth="hmac")
    assert (await anonymous.post(hook.path, json=BODY)).status_code == 404
    hook = await make()
    for verb, status in (("pause", 202), ("archive", 404), ("resume", 202)):
        assert (await acme.client.post(f"/v1/workflows/{hook.workflow_id}/{verb}")).status_code == 200
        answer = await anonymous.post(hook.path, json=BODY)
        assert answer.status_code == status, verb
    for path in ("/hooks/x", f"/hooks/{'a' * 43}", hook.path[:-1], f"{hook.path}a", "/hooks/é"):
        assert (await anonymous.post(path, json=BODY)).status_code == 404
    draft = await acme.make("/v1/workflows", {"name": "Draft"})
    shown = await acme.make(f"/v1/workflows/{draft['id']}/hook/rotate", {}, 200)
    assert (await anonymous.post(urlsplit(shown["url"]).path, json=BODY)).status_code == 404
    await acme.client.delete(f"/v1/workflows/{hook.workflow_id}")
    assert (await anonymous.post(hook.path, json=BODY)).status_code == 404


async def test_a_new_url_ends_the_old_one(make: Make, anonymous, acme):
    hook = await make()
    path = f"/v1/workflows/{hook.workflow_id}/hook"
    made = await acme.make(f"{path}/rotate", {"url": True, "secret": False}, 200)
    assert (made["secret"], made["has_secret"]) == (None, False)
    assert (await anonymous.post(hook.path, json=BODY)).status_code == 404
    assert (await anonymous.post(urlsplit(made["url"]).path, json=BODY)).status_code == 202
    assert (await acme.client.get(path)).json()["url"] == made["url"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 400),
        (b"1", 400),
        (b"null", 400),
        (b"", 400),
        (b"{", 400),
        (b'{"a": 1, "a": 2}', 400),
        (b"\xff", 400),
        (b'{"a": NaN}', 422),
        (b'{"a": "\\u0000"}', 422),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", 422),
        (b'{"a": "' + b"x" * 65_536 + b'"}', 413),
    ],
)
async def test_bad_bodies_are_refused_though_signed(
    body: bytes, status: int, *, make: Make, anonymous, acme, database
):
    hook = await make(auth="hmac")
    secret = await secret_of(acme, hook)
    answer = await anonymous.post(hook.path, content=body, headers=signed(secret, body))
    assert answer.status_code == status, answer.text
    plain = await anonymous.post(hook.path, content=b"{}", headers={"content-type": "text/plain"})
    assert plain.status_code == 415
    assert await count(database, acme.workspace_id, "workflow_executions") == 0


async def test_a_mapping_to_nowhere_is_told_at_publish(acme: Tenant):
    workflow = await acme.make("/v1/workflows", {"name": "Hook"})
    drawn = drawing(fieldMap={"colour": "a.b", "company": "a.c"}) | {"viewport": {"x": 0, "y": 0, "zoom": 1}}
    await acme.graph(workflow["id"], drawn)
    refused = await acme.client.post(f"/v1/workflows/{workflow['id']}/publish")
    assert refused.status_code == 422
    (told,) = refused.json()["errors"]
    assert (told["code"], told["pointer"]) == (
        "unknown_form_field",
        "/nodes/0/data/config/fieldMap/colour",
    )
