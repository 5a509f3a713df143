"""Workflows, their graphs and their forms through the API."""

import asyncio
from typing import Any

import pytest

from tests.api.conftest import FIELDS, Publish, Tenant, count, drawing

pytestmark = pytest.mark.anyio


async def test_a_workflow_is_made_read_changed_listed_and_deleted(acme: Tenant):
    answer = await acme.client.post("/v1/workflows", json={"name": "Contact form"})
    assert answer.status_code == 201
    made = answer.json()
    assert made.keys() == {
        "id",
        "name",
        "description",
        "status",
        "slug",
        "published_version",
        "settings",
        "template_id",
        "created_at",
        "updated_at",
    }
    assert (made["status"], made["slug"], made["published_version"]) == ("draft", "contact-form", None)
    path = answer.headers["location"]
    assert (await acme.client.get(path)).json() == made
    changed = await acme.client.patch(path, json={"slug": "hello", "settings": {"form": {"title": "Hi"}}})
    assert (changed.json()["slug"], changed.json()["name"]) == ("hello", "Contact form")
    await acme.make("/v1/workflows", {"name": "Other", "slug": "other"})
    taken = await acme.client.patch(path, json={"slug": "other"})
    assert (taken.status_code, taken.json()["code"]) == (409, "slug_taken")
    assert [one["name"] for one in (await acme.client.get("/v1/workflows")).json()["data"]] == [
        "Other",
        "Contact form",
    ]
    assert (await acme.client.delete(path)).status_code == 204
    assert (await acme.client.get(path)).status_code == 404
    assert (await acme.client.delete(path)).status_code == 404


async def test_the_same_key_makes_one_workflow(acme: Tenant, database):
    async def post(name: str = "Once"):
        headers = {"Idempotency-Key": "abc"}
        return await acme.client.post("/v1/workflows", json={"name": name}, headers=headers)

    answers = await asyncio.gather(*(post() for _ in range(20)))
    assert {a.status_code for a in answers} == {201}
    assert len({a.text for a in answers}) == 1
    assert len({a.headers["location"] for a in answers}) == 1
    assert sum("idempotent-replayed" in a.headers for a in answers) == 19
    assert await count(database, acme.workspace_id, "workflows") == 1
    assert (await post("Other")).json()["code"] == "idempotency_key_reused"
    refused = await acme.client.post("/v1/workflows", json={}, headers={"Idempotency-Key": "new"})
    assert refused.status_code == 422
    again = await acme.client.post("/v1/workflows", json={"name": "x"}, headers={"Idempotency-Key": "new"})
    assert again.status_code == 201


async def test_a_graph_round_trips_and_carries_its_etag(acme: Tenant):
    workflow = await acme.make("/v1/workflows", {"name": "x"})
    path = f"/v1/workflows/{workflow['id']}/graph"
    empty = await acme.client.get(path)
    assert empty.json() == {"nodes": [], "edges": [], "viewport": {"x": 0, "y": 0, "zoom": 1}}
    graph: dict[str, Any] = drawing()
    graph["nodes"][0] |= {"width": 180, "measured": {"height": 40}}
    graph["nodes"][0]["data"]["color"] = "teal"
    graph["edges"][0] |= {"animated": True, "sourceHandle": None, "targetHandle": None}
    saved = await acme.client.put(path, json=graph, headers={"If-Match": empty.headers["etag"]})
    assert saved.status_code == 200, saved.text
    read = await acme.client.get(path)
    assert read.json() == graph
    assert read.headers["etag"] == saved.headers["etag"] != empty.headers["etag"]
    known = await acme.client.get(path, headers={"If-None-Match": read.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


async def test_a_save_names_the_version_it_changes(acme: Tenant):
    workflow = await acme.make("/v1/workflows", {"name": "x"})
    path = f"/v1/workflows/{workflow['id']}/graph"
    tag = (await acme.client.get(path)).headers["etag"]
    blind = await acme.client.put(path, json=drawing())
    assert (blind.status_code, blind.json()["code"]) == (428, "version_required")
    saves = await asyncio.gather(
        *(acme.client.put(path, json=drawing(), headers={"If-Match": tag}) for _ in range(8))
    )
    assert sorted(a.status_code for a in saves) == [200] + [412] * 7
    for stale in (tag, 'W/"2"', '"nonsense"', '"99999999999999"', "2"):
        assert (await acme.client.put(path, json=drawing(), headers={"If-Match": stale})).status_code == 412
    assert (await acme.client.put(path, json=drawing(), headers={"If-Match": "*"})).status_code == 200


async def test_what_only_hinders_publishing_is_saved_and_told(acme: Tenant):
    workflow = await acme.make("/v1/workflows", {"name": "x"})
    graph = drawing()
    del graph["nodes"][1]["data"]["config"]["message"]
    saved = await acme.graph(workflow["id"], graph)
    assert saved.status_code == 200
    [problem] = [p for p in saved.json()["problems"] if p["node_id"] == "log"]
    # What is missing has no place of its own: the pointer leads to where it is missing.
    assert (problem["pointer"], problem["field"]) == ("/nodes/1/data/config", "message")
    checked = await acme.client.post(f"/v1/workflows/{workflow['id']}/graph/validate", json=graph)
    assert checked.json()["valid"] is False
    refused = await acme.client.post(f"/v1/workflows/{workflow['id']}/publish")
    assert refused.status_code == 422
    mistakes = refused.json()["errors"]
    assert ("log", "message") in {(m.get("node_id"), m.get("field")) for m in mistakes}
    assert (await acme.client.get(f"/v1/workflows/{workflow['id']}")).json()["status"] == "draft"


async def test_publishing_makes_versions_and_statuses_follow(publish: Publish, acme: Tenant):
    form = await publish()
    path = f"/v1/workflows/{form.workflow_id}"
    assert (await acme.client.get(path)).json()["published_version"] == 1
    assert (await acme.client.post(f"{path}/publish")).json()["published_version"] == 1
    graph = drawing(successMessage="Hi")
    tag = (await acme.graph(form.workflow_id, graph)).headers["etag"]
    stale = await acme.client.post(f"{path}/publish", headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    second = await acme.client.post(f"{path}/publish", headers={"If-Match": tag})
    assert (second.json()["published_version"], second.json()["status"]) == (2, "active")
    versions = (await acme.client.get(f"{path}/versions?limit=1")).json()
    assert [one["version"] for one in versions["data"]] == [2]
    rest = (await acme.client.get(f"{path}/versions?cursor={versions['next_cursor']}")).json()
    assert [one["version"] for one in rest["data"]] == [1]
    for verb, status in (
        ("pause", "paused"),
        ("resume", "active"),
        ("archive", "archived"),
        ("resume", "active"),
    ):
        answer = await acme.client.post(f"{path}/{verb}")
        assert (answer.status_code, answer.json()["status"]) == (200, status)
    draft = await acme.make("/v1/workflows", {"name": "draft"})
    for verb in ("pause", "resume"):
        answer = await acme.client.post(f"/v1/workflows/{draft['id']}/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (409, "wrong_status")


async def test_form_fields_are_added_changed_ordered_and_deleted(publish: Publish, anonymous, acme: Tenant):
    form = await publish()
    path = f"/v1/workflows/{form.workflow_id}/form-fields"
    rows = (await acme.client.get(path)).json()["data"]
    assert [row["field_key"] for row in rows] == [field["field_key"] for field in FIELDS]
    for bad, place in (
        ({"field_key": "1x", "label": "x", "field_type": "TEXT"}, "/field_key"),
        ({"field_key": "x", "label": "x", "field_type": "COLOR"}, "/field_type"),
        ({"field_key": "x", "label": "x", "field_type": "DROPDOWN"}, "/options"),
        ({"field_key": "x", "label": "x", "field_type": "TEXT", "is_required": 1}, "/is_required"),
        ({"field_key": "x", "label": "x", "field_type": "TEXT", "validation": {"a": 1}}, "/validation/a"),
        (
            {"field_key": "x", "label": "x", "field_type": "TEXT", "validation": {"pattern": "("}},
            "/validation/pattern",
        ),
        ({"field_key": "x", "label": "", "field_type": "TEXT"}, "/label"),
    ):
        answer = await acme.client.post(path, json=bad)
        assert answer.status_code == 422, bad
        assert place in {detail["pointer"] for detail in answer.json()["errors"]}
    taken = await acme.client.post(path, json=FIELDS[0])
    assert (taken.status_code, taken.json()["code"]) == (409, "field_key_taken")
    budget = f"{path}/{rows[2]['id']}"
    assert (await acme.client.patch(budget, json={"options": []})).status_code == 422
    assert (await acme.client.patch(budget, json={"label": "Money"})).json()["options"] == FIELDS[2][
        "options"
    ]
    order = [row["id"] for row in reversed(rows)]
    assert (await acme.client.put(f"{path}/order", json={"field_ids": order[1:]})).status_code == 422
    ordered = (await acme.client.put(f"{path}/order", json={"field_ids": order})).json()["data"]
    assert [row["id"] for row in ordered] == order
    await anonymous.post(form.path, json={"email": "a@example.com", "budget": "$500"})
    refused = await acme.client.delete(budget)
    assert (refused.status_code, refused.json()["code"]) == (409, "field_has_answers")
    assert (await acme.client.delete(f"{budget}?delete_answers=true")).status_code == 204
    assert (await acme.client.get(budget)).status_code == 404
