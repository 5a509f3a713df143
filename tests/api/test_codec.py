"""K5: the codec server decodes, for who may, what is their workspace's, and nothing else."""

import os
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from google.protobuf.json_format import MessageToDict, ParseDict
from sqlalchemy import text
from temporalio.api.common.v1 import Payloads
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import WorkflowSerializationContext

from activities.clients import blobs, payloads
from activities.clients.blobs import Blobs, is_claim
from activities.clients.keyring import Keyring
from api import logins
from api.allowance import Allowance
from api.app import Config, create_app
from api.routes import codec
from db.session import Database
from tests.api.conftest import BASE, KEY, Publish, Recorder, Tenant, key, speaking

pytestmark = pytest.mark.anyio

UI = "http://temporal.test"
SECRET = {"email": "ada@example.com", "long": "x" * 3000}


@pytest.fixture
def write(database: Database) -> Callable[..., Any]:
    """Write payloads as a workspace's run does; give them as the Web UI sends them."""
    keyring = Keyring(database, KEY)
    converter = payloads.converter(keyring)

    async def written(tenant: Tenant | None, *values: Any) -> dict[str, Any]:
        run = f"run-of-{tenant.slug if tenant else 'nobody'}"
        if tenant:
            keyring.tell(run, tenant.workspace_id)
        context = WorkflowSerializationContext("default", run)
        made = await converter.with_context(context).encode(values)
        return {"payloads": [MessageToDict(payload) for payload in made]}

    return written


PLAIN = {
    "payloads": [
        MessageToDict(payload) for payload in pydantic_data_converter.payload_converter.to_payloads([SECRET])
    ]
}


async def decode(client: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    return await client.post("/codec/decode?preserveStorageRefs=true", json=body, headers=headers)


async def test_a_workspaces_own_payloads_are_decoded_and_anybody_elses_come_back_as_they_were(
    acme: Tenant, rival: Tenant, write
):
    mine, theirs, nobodys = await write(acme, SECRET), await write(rival, SECRET), await write(None, SECRET)
    answer = await decode(acme.client, mine, **{"X-Namespace": "default"})
    assert (answer.status_code, answer.json()) == (200, PLAIN)
    others: list[dict[str, Any]] = [theirs, nobodys, PLAIN, {"payloads": []}, {}]
    for foreign in others:
        assert (await decode(acme.client, foreign)).json() == {"payloads": [], **foreign}
    mixed = {"payloads": mine["payloads"] + theirs["payloads"] + PLAIN["payloads"]}
    read = (await decode(acme.client, mixed)).json()["payloads"]
    assert read == [*PLAIN["payloads"], *theirs["payloads"], *PLAIN["payloads"]]


async def test_a_large_payload_is_fetched_for_its_own_workspace_alone(
    database: Database, acme: Tenant, rival: Tenant, publish: Publish
):
    form = await publish()
    ordered = await acme.client.post(f"/v1/workflows/{form.workflow_id}/executions", json={})
    run = f"execution-{ordered.json()['id']}"
    converter = payloads.converter(Keyring(database, KEY), Blobs(database))
    told = [os.urandom(100_000).hex() for _ in range(2)]
    made = await converter.with_context(WorkflowSerializationContext("default", run)).encode(told)
    claims = {"payloads": [MessageToDict(payload) for payload in made]}
    assert all(map(is_claim, made))

    read = (await decode(acme.client, claims)).json()
    assert ParseDict(read, Payloads()).payloads[:] == converter.payload_converter.to_payloads(told)
    assert (await decode(rival.client, claims)).json() == claims
    # A short question has no endless answer: what is beyond comes back as it was.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "MOST_BYTES", 150_000)
        first, second = (await decode(acme.client, claims)).json()["payloads"]
    assert (first, second) == (read["payloads"][0], claims["payloads"][1])
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text("DELETE FROM payload_blobs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs, "SECONDS", 0.0)
        assert (await decode(acme.client, claims)).json() == claims


async def test_what_no_key_opens_comes_back_as_it_was(acme: Tenant, write):
    (good,) = (await write(acme, SECRET))["payloads"]
    for change in (
        {"data": good["data"][:-8]},
        {"data": ""},
        {"metadata": {**good["metadata"], "key": "AAAA"}},
        {"metadata": {"encoding": good["metadata"]["encoding"]}},
    ):
        broken = {"payloads": [{**good, **change}]}
        answer = await decode(acme.client, broken)
        assert answer.status_code == 200
        assert answer.json()["payloads"][0].get("metadata") == broken["payloads"][0]["metadata"]


async def test_what_is_no_payload_is_a_problem(acme: Tenant):
    bodies: list[tuple[Any, int]] = [
        ([], 422),
        ({"payloads": 7}, 422),
        ({"payloads": [7]}, 422),
        ({"payloads": [{"data": "A"}]}, 422),
        ({"payloads": [{"metadata": {"encoding": 5}}]}, 422),
        ({"other": 1}, 422),
        ({"payloads": [{"data": "A" * 1_100_000}]}, 413),
    ]
    for body, status in bodies:
        answer = await decode(acme.client, body)
        assert answer.status_code == status, str(body)[:80]
        assert answer.headers["content-type"] == "application/problem+json"


async def test_what_the_web_ui_is_about_to_send_comes_back_as_it_is(app: FastAPI, acme: Tenant):
    argument = {"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "eyJzdGVwIjogIm1haWw6MSJ9"}
    answer = await acme.client.post("/codec/encode", json={"payloads": [argument]})
    assert (answer.status_code, answer.json()) == (200, {"payloads": [argument]})
    assert (await acme.client.post("/codec/encode", json={"payloads": [7]})).status_code == 422
    async with speaking(app) as stranger:
        assert (await stranger.post("/codec/encode", json={"payloads": [argument]})).status_code == 401


async def test_a_key_needs_the_scope(app: FastAPI, database: Database, acme: Tenant, write):
    mine = await write(acme, SECRET)
    for scopes, status in ((["executions:read"], 403), (["codec:decode"], 200)):
        async with speaking(app, await key(database, acme.workspace_id, scopes)) as client:
            assert (await decode(client, mine)).status_code == status
    async with speaking(app) as stranger:
        for headers in ({}, {"Authorization": "Bearer ft_x"}, {"Cookie": f"{logins.COOKIE}=x"}):
            refused = await decode(stranger, mine, **headers)
            assert refused.status_code == 401, headers


async def test_a_browser_logs_in_and_the_web_ui_reads_until_the_key_is_revoked(
    app: FastAPI, acme: Tenant, anonymous: httpx.AsyncClient, write
):
    mine = await write(acme, SECRET)
    made = await acme.make("/v1/api-keys", {"name": "UI", "scopes": ["codec:decode"]})
    assert 'name="api_key"' in (await anonymous.get("/codec/login")).text
    for wrong in ("", "ft_x", "é", made["token"][:-1]):
        refused = await anonymous.post("/codec/login", data={"api_key": wrong})
        assert (refused.status_code, dict(refused.cookies)) == (401, {})
    answer = await anonymous.post("/codec/login", data={"api_key": made["token"]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/codec/login")
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/codec"))
    assert made["token"] not in cookie
    page = await anonymous.get("/codec/login")
    assert "workspace Acme" in page.text
    assert f"{BASE}/codec" in page.text

    read = await decode(anonymous, mine, Origin=UI)
    assert (read.status_code, read.json()) == (200, PLAIN)
    assert read.headers["access-control-allow-origin"] == UI
    assert read.headers["access-control-allow-credentials"] == "true"
    elsewhere = await decode(anonymous, mine, Origin="https://evil.example")
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "origin_refused")
    assert "access-control-allow-origin" not in elsewhere.headers

    async with speaking(app) as leaving:
        leaving.cookies = anonymous.cookies
        await leaving.post("/codec/logout")
        assert (await decode(leaving, mine, Origin=UI)).status_code == 401
    assert (await acme.client.delete(f"/v1/api-keys/{made['id']}")).status_code == 204
    assert (await decode(anonymous, mine, Origin=UI)).status_code == 401


async def test_another_site_can_neither_log_a_browser_in_nor_out(anonymous: httpx.AsyncClient, acme: Tenant):
    for path in ("/codec/login", "/codec/logout"):
        headers = {"Sec-Fetch-Site": "cross-site"}
        answer = await anonymous.post(path, data={"api_key": acme.token}, headers=headers)
        assert (answer.status_code, dict(answer.cookies)) == (403, {})


async def test_only_the_web_uis_preflight_is_answered_well(anonymous: httpx.AsyncClient):
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-namespace",
    }
    well = await anonymous.options("/codec/decode", headers={"Origin": UI, **asked})
    assert well.status_code == 200
    assert well.headers["access-control-allow-origin"] == UI
    assert "x-namespace" in well.headers["access-control-allow-headers"].lower()
    other = await anonymous.options("/codec/decode", headers={"Origin": "http://temporal.test.evil", **asked})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("path", "sizes", "statuses"),
    [
        ("decode", [1, 1, 0, 1], [200, 200, 200, 429]),
        ("decode", [3, 1], [200, 429]),
        ("encode", [2, 2], [200, 429]),
    ],
)
async def test_a_flood_is_told_when_to_come_back(
    database: Database,
    starter: Recorder,
    config: Config,
    acme: Tenant,
    *,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    sizes: list[int],
    statuses: list[int],
):
    """Payloads count, not requests; an empty request counts as one."""
    monkeypatch.setattr("api.deps.DECODES", 3)
    async with speaking(create_app(database, starter, config=config), acme.token) as client:
        bodies = [{"payloads": PLAIN["payloads"] * size} for size in sizes]
        answers = [await client.post(f"/codec/{path}", json=body) for body in bodies]
    assert [answer.status_code for answer in answers] == statuses
    assert int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["decode", "encode"])
async def test_a_request_takes_so_many_payloads_and_says_so(acme: Tenant, path: str):
    for count, status in ((200, 200), (201, 422)):
        body = {"payloads": [{"data": ""}] * count}
        answer = await acme.client.post(f"/codec/{path}", json=body)
        assert answer.status_code == status
    problem = answer.json()
    assert "200 payloads" in problem["detail"]
    assert problem["errors"][0]["pointer"] == "/payloads"


def test_an_allowance_fills_again_and_forgets_who_is_gone():
    now = [0.0]
    allowance = Allowance(burst=2, per_second=4, callers=2, clock=lambda: now[0])
    assert [allowance.take("a") for _ in range(3)] == [0, 0, 0.25]
    assert allowance.take("several", count=2) == 0
    assert allowance.take("several", count=2) == 0.5
    now[0] += 0.25
    assert allowance.take("a") == 0
    assert allowance.take("b") == allowance.take("c") == 0
    # Whoever was longest away begins anew.
    assert allowance.take("a") == 0


def test_a_login_opens_as_it_was_written_until_it_expires():
    workspace, api_key = UUID(int=1), UUID(int=2)
    made = logins.issue(KEY, workspace, api_key, now=1_000)
    read = logins.read(KEY, made, now=1_000)
    assert read is not None
    assert (read.workspace_id, read.api_key_id) == (workspace, api_key)
    assert logins.read(KEY, made, now=1_000 + logins.LIFETIME) is None
    assert logins.read(bytes(32), made, now=1_000) is None
    for wrong in ("", "é", "AAAA", made[:-4], "B" + made[1:], made + "AAAA"):
        assert logins.read(KEY, wrong, now=1_000) is None
