"""What was published comes back as drawn, is compared and restored; workflows are cloned."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from tests.api.conftest import FIELDS, Form, Publish, Tenant, drawing

pytestmark = pytest.mark.anyio


def decorated(message: str = "hello!") -> dict[str, Any]:
    """Draw what only the canvas knows: positions, a note, a disabled edge, keys that are not ours."""
    graph = drawing()
    graph["nodes"][1]["data"]["config"]["message"] = message
    graph["nodes"][1] |= {"position": {"x": 7.5, "y": -3}, "measured": {"height": 40}}
    graph["nodes"].append(
        {
            "id": "note",
            "type": "UTILITY_NOTE",
            "position": {"x": 1, "y": 2},
            "data": {"color": "teal", "label": "Mind", "config": {"text": "the gap"}},
        }
    )
    off = {"id": "off", "source": "form", "target": "log", "animated": True, "data": {"isEnabled": False}}
    graph["edges"] = [{**edge, "sourceHandle": None, "targetHandle": None} for edge in [*graph["edges"], off]]
    graph["viewport"] = {"x": 3, "y": 4, "zoom": 0.5}
    return graph


async def published(acme: Tenant, form: Form, graph: dict[str, Any]) -> dict[str, Any]:
    assert (await acme.graph(form.workflow_id, graph)).status_code == 200
    answer = await acme.client.post(f"/v1/workflows/{form.workflow_id}/publish")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_version_comes_back_as_it_was_drawn_and_is_restored_so(publish: Publish, acme: Tenant):
    form = await publish()
    path = f"/v1/workflows/{form.workflow_id}"
    graph = decorated()
    assert (await published(acme, form, graph))["published_version"] == 2
    read = (await acme.client.get(f"{path}/versions/2")).json()
    assert read["graph"] == graph
    assert [field["field_key"] for field in read["form_fields"]] == [field["field_key"] for field in FIELDS]
    await published(acme, form, drawing(successMessage="Other"))
    tag = (await acme.client.get(f"{path}/graph")).headers["etag"]
    blind = await acme.client.post(f"{path}/versions/2/restore")
    assert (blind.status_code, blind.json()["code"]) == (428, "version_required")
    restores = await asyncio.gather(
        *(acme.client.post(f"{path}/versions/2/restore", headers={"If-Match": tag}) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in restores) == [200, 412, 412, 412]
    [restored] = [answer for answer in restores if answer.status_code == 200]
    assert restored.json() == {**graph, "problems": restored.json()["problems"]}
    draft = await acme.client.get(f"{path}/graph")
    assert (draft.json(), draft.headers["etag"]) == (graph, restored.headers["etag"])
    # The draft was restored and nothing else: runs go on with what is published until it is published again.
    assert (await acme.client.get(path)).json()["published_version"] == 3
    assert (await published(acme, form, graph))["published_version"] == 4


async def test_versions_and_the_draft_are_compared(publish: Publish, acme: Tenant):
    form = await publish()
    path = f"/v1/workflows/{form.workflow_id}"
    await published(acme, form, decorated())
    changed = decorated("bye")
    del changed["nodes"][2], changed["edges"][0]
    changed["edges"].append({**changed["edges"][0], "id": "e3"})
    await acme.graph(form.workflow_id, changed)
    field = (await acme.client.get(f"{path}/form-fields")).json()["data"][1]
    await acme.client.patch(f"{path}/form-fields/{field['id']}", json={"help_text": "Given name"})
    found = (await acme.client.get(f"{path}/versions/2/diff/draft")).json()
    assert (found["before"], found["after"]) == (2, "draft")
    message = {"pointer": "/data/config/message", "change": "changed", "old": "hello!", "new": "bye"}
    assert found["nodes"] == {
        "added": [],
        "removed": [decorated()["nodes"][2]],
        "changed": [{"id": "log", "changes": [message]}],
    }
    assert [[edge["id"] for edge in found["edges"][kind]] for kind in ("added", "removed")] == [
        ["e3"],
        ["e1"],
    ]
    asked = {"pointer": "/help_text", "change": "changed", "old": "As on a badge", "new": "Given name"}
    assert found["form_fields"]["changed"] == [{"id": "first_name", "changes": [asked]}]
    backwards = (await acme.client.get(f"{path}/versions/2/diff/1")).json()
    assert [node["id"] for node in backwards["nodes"]["removed"]] == ["note"]
    same = (await acme.client.get(f"{path}/versions/2/diff/2")).json()
    empty: dict[str, Any] = {"added": [], "removed": [], "changed": []}
    assert same == {"before": 2, "after": 2, "nodes": empty, "edges": empty, "form_fields": empty}


async def test_a_version_of_which_only_the_graph_is_known_is_drawn_from_it(
    publish: Publish, acme: Tenant, database
):
    form = await publish()
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(
            text(
                "INSERT INTO workflow_versions (workspace_id, id, workflow_id, version, content_hash, graph)"
                " SELECT workspace_id, gen_random_uuid(), workflow_id, 2, content_hash, graph"
                " FROM workflow_versions"
            )
        )
    read = (await acme.client.get(f"/v1/workflows/{form.workflow_id}/versions/2")).json()
    assert [(n["id"], n["type"], n["data"]["label"]) for n in read["graph"]["nodes"]] == [
        ("form", "TRIGGER_FORM", "Form"),
        ("log", "UTILITY_LOG", "Log"),
    ]
    assert [(e["source"], e["target"]) for e in read["graph"]["edges"]] == [("form", "log")]
    assert read["form_fields"] == []


async def test_publishing_and_the_list_tell_what_is_in_flight_on_which_version(
    publish: Publish, acme: Tenant, database
):
    form = await publish()
    path = f"/v1/workflows/{form.workflow_id}"
    runs = [await acme.make(f"{path}/executions", {}, 202) for _ in range(3)]
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(
            text("UPDATE workflow_executions SET status = 'completed' WHERE id = :id"), {"id": runs[0]["id"]}
        )
    second = await published(acme, form, decorated())
    assert second["in_flight"] == [{"version": 1, "executions": 2}]
    await acme.make(f"{path}/executions", {}, 202)
    listed = (await acme.client.get(f"{path}/versions")).json()["data"]
    assert [(one["version"], one["in_flight"]) for one in listed] == [(2, 1), (1, 2)]
    again = await published(acme, form, decorated())
    assert again["in_flight"] == [{"version": 2, "executions": 1}, {"version": 1, "executions": 2}]
    # A run stays on its version.
    assert (await acme.client.get(f"/v1/executions/{runs[1]['id']}")).json()["version"] == 1


async def test_a_version_that_is_not_there_is_not_found(publish: Publish, acme: Tenant):
    form = await publish()
    path = f"/v1/workflows/{form.workflow_id}/versions"
    tag = {"If-Match": "*"}
    assert (await acme.client.get(f"{path}/2")).status_code == 404
    assert (await acme.client.get(f"{path}/1/diff/2")).status_code == 404
    assert (await acme.client.post(f"{path}/2/restore", headers=tag)).status_code == 404
    for wrong in ("0", "-1", "x", "99999999999"):
        assert (await acme.client.get(f"{path}/{wrong}")).status_code == 404
        assert (await acme.client.get(f"{path}/1/diff/{wrong}")).status_code == 404


async def test_a_clone_has_the_drawing_the_form_and_the_settings_and_nothing_else(
    publish: Publish, acme: Tenant, rival: Tenant, database
):
    form = await publish()
    path = f"/v1/workflows/{form.workflow_id}"
    await acme.client.patch(path, json={"settings": {"form": {"title": "Hi"}}})
    await acme.make(f"{path}/executions", {}, 202)
    await acme.graph(form.workflow_id, decorated())
    clone = await acme.make(f"{path}/clone", {})
    assert (clone["name"], clone["slug"], clone["status"]) == ("Contact (copy)", "contact-copy", "draft")
    assert (clone["template_id"], clone["published_version"]) == (form.workflow_id, None)
    assert clone["settings"] == {"form": {"title": "Hi"}}
    copy = f"/v1/workflows/{clone['id']}"
    assert (await acme.client.get(f"{copy}/graph")).json() == decorated()
    sides = [(await acme.client.get(f"{each}/form-fields")).json()["data"] for each in (path, copy)]
    own = ("id", "created_at", "updated_at")
    bare = [[{k: v for k, v in field.items() if k not in own} for field in side] for side in sides]
    assert bare[0] == bare[1]
    assert {field["id"] for field in sides[0]}.isdisjoint(field["id"] for field in sides[1])
    assert (await acme.client.get(f"{copy}/versions")).json()["data"] == []
    assert (await acme.client.get(f"/v1/executions?workflow_id={clone['id']}")).json()["data"] == []
    # It is a workflow of its own: it is published, and the other does not notice.
    assert (await acme.client.post(f"{copy}/publish")).json()["published_version"] == 1
    again = await acme.make(f"{path}/clone", {"name": "Contact (copy)"})
    assert (again["name"], again["slug"]) == ("Contact (copy)", "contact-copy-2")
    assert (await rival.client.post(f"{path}/clone", json={})).status_code == 404


async def test_a_cloned_hook_gets_a_token_and_a_secret_of_its_own(acme: Tenant):
    workflow = await acme.make("/v1/workflows", {"name": "Hook"})
    graph = drawing(auth="token")
    graph["nodes"][0]["type"] = "TRIGGER_WEBHOOK"
    await acme.graph(workflow["id"], graph)
    await acme.client.post(f"/v1/workflows/{workflow['id']}/publish")
    clone = await acme.make(f"/v1/workflows/{workflow['id']}/clone", {})
    await acme.client.post(f"/v1/workflows/{clone['id']}/publish")
    hooks = [(await acme.client.get(f"/v1/workflows/{each['id']}/hook")).json() for each in (workflow, clone)]
    assert hooks[0]["url"] != hooks[1]["url"]


async def test_the_same_key_clones_once(publish: Publish, acme: Tenant):
    form = await publish()
    path = f"/v1/workflows/{form.workflow_id}/clone"
    key = {"Idempotency-Key": "clone"}
    answers = await asyncio.gather(*(acme.client.post(path, json={}, headers=key) for _ in range(5)))
    assert len({answer.text for answer in answers}) == 1
    assert len((await acme.client.get("/v1/workflows")).json()["data"]) == 2
