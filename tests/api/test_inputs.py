"""Bad inputs get a problem that names the field, never a 500, and leave nothing (security.md §12 E)."""

import gzip
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api import errors
from api.app import create_app
from db import keys
from db.session import Database
from tests.api.conftest import Publish, Tenant, count, drawing, speaking

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
PATH = "/v1/workflows"


def nested(depth: int) -> bytes:
    return b'{"name": "x", "settings": ' + b'{"a": ' * depth + b"1" + b"}" * depth + b"}"


RAW: list[tuple[str, bytes, dict[str, str], int, str]] = [
    ("nul in text", b'{"name": "a\\u0000b"}', JSON, 422, "/name"),
    ("nul in jsonb", b'{"name": "a", "settings": {"x": ["\\u0000"]}}', JSON, 422, "/settings/x/0"),
    ("nul in a key", b'{"name": "a", "settings": {"\\u0000": 1}}', JSON, 422, "/settings"),
    ("half a pair", b'{"name": "a", "settings": {"x": "\\ud800"}}', JSON, 422, "/settings/x"),
    ("NaN", b'{"name": "a", "settings": {"x": NaN}}', JSON, 422, "/settings/x"),
    ("Infinity", b'{"name": "a", "settings": {"x": -Infinity}}', JSON, 422, "/settings/x"),
    ("1e400", b'{"name": "a", "settings": {"x": 1e400}}', JSON, 422, "/settings/x"),
    ("over bigint", b'{"name": "a", "settings": {"x": 9223372036854775808}}', JSON, 422, "/settings/x"),
    ("5000 digits", b'{"name": "a", "settings": {"x": ' + b"9" * 5000 + b"}}", JSON, 422, "/settings/x"),
    ("too deep", nested(70), JSON, 422, ""),
    ("far too deep", nested(100_000), JSON, 422, ""),
    ("unknown key", b'{"name": "a", "__proto__": {}}', JSON, 422, "/__proto__"),
    ("id in a body", b'{"name": "a", "workspace_id": "x"}', JSON, 422, "/workspace_id"),
    ("wrong type", b'{"name": true}', JSON, 422, "/name"),
    ("empty name", b'{"name": "  "}', JSON, 422, "/name"),
    ("missing", b"{}", JSON, 422, "/name"),
    ("no object", b"[]", JSON, 422, ""),
    ("null", b"null", JSON, 422, ""),
    ("no body", b"", JSON, 422, ""),
    ("500k keys", b'{"name":"a",' + b",".join(b'"k%d":1' % n for n in range(200_000)) + b"}", JSON, 422, ""),
    ("duplicate key", b'{"name": "a", "name": "b"}', JSON, 400, ""),
    ("broken", b'{"name": ', JSON, 400, ""),
    ("invalid UTF-8", b'{"name": "\xff"}', JSON, 400, ""),
    ("UTF-16", '{"name": "a"}'.encode("utf-16"), JSON, 400, ""),
    ("BOM", b'\xef\xbb\xbf{"name": "a"}', JSON, 400, ""),
    ("as text", b'{"name": "a"}', {"Content-Type": "text/plain"}, 415, ""),
    ("without type", b'{"name": "a"}', {}, 415, ""),
    ("as a form", b"name=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415, ""),
    ("latin-1", b'{"name": "a"}', {"Content-Type": "application/json; charset=latin-1"}, 415, ""),
    ("gzip", gzip.compress(b'{"name": "a"}'), {**JSON, "Content-Encoding": "gzip"}, 415, ""),
    ("large settings", b'{"name": "a", "settings": {"x": "' + b"x" * 70_000 + b'"}}', JSON, 422, "/settings"),
    ("too large", b'{"name": "' + b"x" * 4_200_000 + b'"}', JSON, 413, ""),
]


async def test_a_bad_body_is_refused_before_the_database(acme: Tenant, database):
    for name, body, headers, status, place in RAW:
        answer = await acme.client.post(PATH, content=body, headers=headers)
        assert answer.status_code == status, (name, answer.text)
        assert answer.headers["content-type"] == errors.MEDIA_TYPE, name
        problem = answer.json()
        assert problem["status"] == status
        assert problem["request_id"] == answer.headers["x-request-id"]
        assert "Value error" not in answer.text, name
        if place:
            assert place in {detail["pointer"] for detail in problem["errors"]}, name
        assert len(answer.content) < 20_000, name
    assert await count(database, acme.workspace_id, "workflows") == 0


async def test_the_framework_s_own_refusals_are_problems(acme: Tenant, anonymous: httpx.AsyncClient):
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/workflows", 405),
        ("GET", "/v1/", 404),
    ):
        answer = await anonymous.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == errors.MEDIA_TYPE
    assert "GET" in (await anonymous.delete("/v1/workflows")).headers["allow"]
    given = {"X-Request-Id": "abc-123"}
    assert (await anonymous.get("/nowhere", headers=given)).json()["request_id"] == "abc-123"
    forged = await anonymous.get("/nowhere", headers={"X-Request-Id": "a b<script>"})
    assert "<" not in forged.headers["x-request-id"]


NOTES = [{"id": f"n{n}", "type": "UTILITY_NOTE"} for n in range(10_000)]
QUERIES = [
    ("/v1/leads?nonsense=1", 422),
    ("/v1/leads?limit=0", 422),
    ("/v1/leads?limit=101", 422),
    ("/v1/leads?limit=99999999999999999999999", 422),
    ("/v1/leads?cursor=nonsense", 400),
    ("/v1/leads?cursor=' OR 1=1 --", 400),
    ("/v1/leads?cursor=%C3%A9", 400),
    ("/v1/leads?status=%27%3B DROP TABLE leads;--", 400),
    ("/v1/leads?status=%00", 422),
    ("/v1/leads?search=%25%27", 200),
    ("/v1/leads?workflow_id=1", 422),
    ("/v1/leads?workflow_id=' OR 1=1", 400),
    ("/v1/leads?created_after=0001-01-01T00:00:00%2B23:59", 422),
    ("/v1/leads?created_after=2026-01-01T00:00:00%2B23:59", 200),
    ("/v1/leads?created_after=yesterday", 422),
    ("/v1/leads?created_after=2026-01-01T00:00:00", 422),
    ("/v1/executions?status=bogus", 422),
    ("/v1/executions?status=' OR 1=1", 400),
    ("/v1/leads/nonsense", 404),
    ("/v1/leads/00000000-0000-0000-0000-000000000000", 404),
    ("/v1/leads/%00", 404),
]


async def test_a_bad_query_is_refused(acme: Tenant):
    for path, status in QUERIES:
        answer = await acme.client.get(path)
        assert answer.status_code == status, (path, answer.text)


async def test_a_cursor_is_good_for_its_own_list_only(acme: Tenant, rival: Tenant):
    for name in ("a", "b", "c"):
        await acme.make(PATH, {"name": name})
        await rival.make(PATH, {"name": name})
    first = (await acme.client.get(f"{PATH}?limit=2")).json()
    assert [one["name"] for one in first["data"]] == ["c", "b"]
    cursor = first["next_cursor"]
    second = (await acme.client.get(f"{PATH}?limit=2&cursor={cursor}")).json()
    assert [one["name"] for one in second["data"]] == ["a"]
    assert second["next_cursor"] is None
    for client, path in (
        (rival.client, f"{PATH}?cursor={cursor}"),
        (acme.client, f"/v1/leads?cursor={cursor}"),
        (acme.client, f"{PATH}?status=draft&cursor={cursor}"),
        (acme.client, f"{PATH}?cursor={cursor[:-1]}"),
        (acme.client, f"{PATH}?cursor=A{cursor}"),
    ):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_hostile_public_posts_are_refused(
    publish: Publish, anonymous: httpx.AsyncClient, acme, database
):
    form = await publish()
    urlencoded = {"Content-Type": "application/x-www-form-urlencoded"}
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="email"'
    file = part + b'; filename="../../etc/passwd"\r\n\r\nx\r\n--x--\r\n'
    many = "&".join(f"f{n}=1" for n in range(1001)).encode()
    cases: list[tuple[bytes, dict[str, str], set[int]]] = [
        (b'{"email": "' + b"a" * 66_000 + b'"}', JSON, {413}),
        (b"email=" + b"a" * 66_000, urlencoded, {413}),
        (json.dumps({"email": "a@example.com", "first_name": "x" * 5001}).encode(), JSON, {422}),
        (json.dumps({f"f{n}": 1 for n in range(500)}).encode(), JSON, {422}),
        (many, urlencoded, {400, 422}),
        (b"email=%ff%fe", urlencoded, {400}),
        (b"email=a%00b", urlencoded, {422}),
        (b"email=a@example.com&email=b@example.com", urlencoded, {422}),
        (b"email=a@example.com", {"Content-Type": "multipart/form-data"}, {400, 422}),
        (b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\na', multipart, {400, 422}),
        (file, multipart, {400, 422}),
        (b"email=a@example.com", {"Content-Type": "text/plain"}, {415}),
        (b"[1]", JSON, {422}),
        (b'"x"', JSON, {422}),
        (b'{"email": {"a": 1}}', JSON, {422}),
        (b'{"email": ["a@example.com"]}', JSON, {422}),
        (b'{"email": "a@example.com", "seats": true}', JSON, {422}),
        (b'{"email": "a@example.com", "seats": "\xef\xbc\x91\xef\xbc\x92"}', JSON, {422}),
        (b'{"email": "a@example.com", "budget": "$1"}', JSON, {422}),
        (b'{"email": "a@example.com", "constructor": 1}', JSON, {422}),
        (b"", {}, {422}),
    ]
    for body, headers, statuses in cases:
        answer = await anonymous.post(form.path, content=body, headers=headers)
        assert answer.status_code in statuses, (body[:60], answer.status_code, answer.text[:300])
    bad_key = await anonymous.post(
        form.path, json={"email": "a@example.com"}, headers={"Idempotency-Key": "a b"}
    )
    assert bad_key.status_code == 422
    for table in ("leads", "lead_events", "workflow_executions", "usage_events", "idempotency_keys"):
        assert await count(database, acme.workspace_id, table) == 0, table


async def test_odd_but_honest_answers_are_kept_as_text(publish: Publish, anonymous, acme: Tenant):
    form = await publish()
    odd = "=cmd|'/c calc'!A1 {{ lead.email }} <script>"
    assert (
        await anonymous.post(form.path, json={"email": "a@exаmple.com", "first_name": odd})
    ).status_code == 202
    lead = (await acme.client.get("/v1/leads")).json()["data"][0]
    assert lead["first_name"] == odd
    event = (await acme.client.get(f"/v1/leads/{lead['id']}/events")).json()["data"][0]
    assert event["metadata"]["flags"] == ["lookalike_domain"]


async def test_what_a_client_may_not_write_is_refused(publish: Publish, anonymous, acme: Tenant):
    form = await publish()
    await anonymous.post(form.path, json={"email": "a@example.com"})
    lead = (await acme.client.get("/v1/leads")).json()["data"][0]
    path = f"/v1/leads/{lead['id']}"
    for body in (
        {"id": lead["id"]},
        {"workspace_id": lead["id"]},
        {"created_at": "2026-01-01T00:00:00Z"},
        {"status": None},
        {"status": "'; DROP TABLE leads"},
        {"email": "nonsense"},
        {"timezone": "../etc"},
        {"first_name": "x" * 501},
        {"first_name": 5},
    ):
        answer: Any = await acme.client.patch(path, json=body)
        assert answer.status_code == 422, body
        assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(body))}"
    assert (await acme.client.get(path)).json()["updated_at"] == lead["updated_at"]


BLOCKED = [
    "http://169.254.169.254/latest",
    "https://127.0.0.1/",
    "https://[::1]/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://localhost/",
    "https://good.example@127.0.0.1/",
    "http://example.com/",
    "https://example.com:22/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "not a url",
    "https://example.com/#x",
]


async def test_blocked_destinations_are_refused_on_save(acme: Tenant, database):
    for url in BLOCKED:
        answer = await acme.client.post("/v1/webhook-endpoints", json={"url": url})
        assert (answer.status_code, answer.json()["code"]) == (422, "blocked_destination"), url
        assert answer.json()["errors"][0]["pointer"] == "/url"
    assert await count(database, acme.workspace_id, "webhook_endpoints") == 0


@pytest.mark.parametrize(
    ("break_it", "node", "field"),
    [
        (lambda g: g["nodes"][1].update(type="NONSENSE"), "log", "type"),
        (lambda g: g["nodes"][1].update(id="form"), "form", "id"),
        (lambda g: g["edges"][0].update(target="form"), "form", "target"),
        (lambda g: g["nodes"][1].pop("id"), None, "id"),
        (lambda g: g.update(nodes={}), None, "nodes"),
        (
            lambda g: g["nodes"].extend({"id": f"n{n}", "type": "UTILITY_NOTE"} for n in range(10_000)),
            None,
            "nodes",
        ),
        (lambda g: g["nodes"][1]["data"]["config"].update(message="x" * 1_100_000), "log", "config"),
    ],
)
async def test_a_broken_graph_names_node_and_field(break_it, node, field, acme: Tenant):
    workflow = await acme.make(PATH, {"name": "x"})
    graph = drawing()
    break_it(graph)
    answer = await acme.graph(workflow["id"], graph)
    assert answer.status_code == 422, answer.text
    assert (node, field) in {(d.get("node_id"), d.get("field")) for d in answer.json()["errors"]}
    assert (await acme.client.get(f"/v1/workflows/{workflow['id']}/graph")).json()["nodes"] == []


async def test_an_exception_keeps_its_text(app: FastAPI, anonymous: httpx.AsyncClient):
    async def explode() -> None:
        raise RuntimeError("secret text")

    app.add_api_route("/explode", explode)
    answer = await anonymous.get("/explode")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["code"] == "internal_error"


async def test_an_outage_is_503_for_programs_and_a_page_for_people(starter, config):
    away = Database("postgresql://flowtrack_app@127.0.0.1:1/none")
    token = "ft_0123456789ab_" + "x" * 43
    token += keys._checksum("0123456789ab", "x" * 43)
    try:
        async with speaking(create_app(away, starter, config=config), token) as client:
            answer = await client.get("/v1/leads")
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert (await client.post("/f/acme/contact", json={"email": "a@example.com"})).status_code == 503
            page = await client.get("/f/acme/contact", headers={"Accept": "text/html,*/*"})
            assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
            assert page.headers["retry-after"]
            assert (await client.get("/readyz")).status_code == 503
    finally:
        await away.close()


async def test_a_busy_pool_is_503_with_retry_after(acme: Tenant, database_url, starter, config):
    small = Database(database_url, pool_size=1, pool_timeout=0.1)
    try:
        app = create_app(small, starter, config=config)
        async with small.workspace(acme.workspace_id), speaking(app, acme.token) as client:
            answer = await client.get("/v1/leads")
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert answer.json()["code"] == "unavailable"
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/healthz")).status_code == 200
    finally:
        await small.close()
