"""Reruns and bulk requests through the API: what is refused, what is matched, and whose it is."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from api.cancels import Cancels
from db import cancels, listing, reruns
from tests.api.conftest import Publish, Recorder, Tenant
from tests.api.test_resources import run, set_status

pytestmark = pytest.mark.anyio


async def test_a_cancel_waits_for_temporal_and_is_carried_out_when_it_is_back(
    publish: Publish, acme: Tenant, starter: Recorder, database
):
    form = await publish()
    running = (await run(form)).json()["id"]
    await set_status(database, acme, "running", running)
    starter.failure = RuntimeError("away")
    asked = await acme.client.post(f"/v1/executions/{running}/cancel")
    assert (asked.status_code, asked.json()["status"]) == (202, "running")
    dispatcher = Cancels(database, starter)
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text("UPDATE workflow_executions SET cancel_due_at = now()"))
    assert await dispatcher.carry_out(limit=10, stale_seconds=0) == 1
    starter.failure = None
    assert await dispatcher.carry_out(limit=10, stale_seconds=0) == 1
    assert await dispatcher.carry_out(limit=10, stale_seconds=0) == 0
    assert [str(one) for one in starter.cancelled] == [running]


async def test_executions_of_a_filter_are_cancelled_and_rerun_in_their_own_workspace_only(
    publish: Publish, acme: Tenant, rival: Tenant, database
):
    form = await publish()
    ids = [(await run(form)).json()["id"] for _ in range(4)]
    await set_status(database, acme, "running", ids[0])
    await set_status(database, acme, "failed", ids[1])
    by_workflow = {"workflow_id": form.workflow_id}
    for name in ("bulk-cancel", "bulk-rerun"):
        path = f"/v1/executions/{name}"
        assert (await rival.client.post(path, json=by_workflow)).json() == {"matched": 0}
        nothing = await acme.client.post(path, json={})
        assert (nothing.status_code, nothing.json()["errors"][0]["code"]) == (422, "filter_missing")
    open_ones = await acme.client.post("/v1/executions/bulk-rerun", json={"status": "waiting"})
    assert (open_ones.status_code, open_ones.json()["errors"][0]["pointer"]) == (422, "/status")

    late = {**by_workflow, "queued_after": "2100-01-01T00:00:00Z"}
    assert (await acme.client.post("/v1/executions/bulk-cancel", json=late)).json() == {"matched": 0}
    assert (await acme.client.post("/v1/executions/bulk-cancel", json=by_workflow)).json() == {"matched": 3}
    for execution_id, status in zip(ids, ("running", "failed", "cancelled", "cancelled"), strict=True):
        shown = (await acme.client.get(f"/v1/executions/{execution_id}")).json()
        assert shown["status"] == status
    assert (await acme.client.post("/v1/executions/bulk-rerun", json=by_workflow)).json() == {"matched": 3}
    assert (await acme.client.post("/v1/executions/bulk-rerun", json=by_workflow)).json() == {"matched": 0}
    listed = (await acme.client.get("/v1/executions", params={"status": "queued"})).json()["data"]
    assert {one["rerun_of"] for one in listed} == set(ids[1:])
    assert {one["trigger_data"] == {} for one in listed} == {True}


async def test_more_executions_than_one_request_may_change_are_left_alone(
    publish: Publish, acme: Tenant, database
):
    form = await publish()
    for _ in range(3):
        await run(form)
    async with database.workspace(acme.workspace_id) as session:
        with pytest.raises(cancels.TooMany):
            await cancels.ask_all(session, acme.workspace_id, listing.Wanted(status="queued"), most=2)
        await session.rollback()
    assert len((await acme.client.get("/v1/executions?status=queued")).json()["data"]) == 3


async def test_a_rerun_of_what_is_open_archived_or_without_its_lead_is_refused(
    publish: Publish, anonymous, acme: Tenant, rival: Tenant, database
):
    form = await publish()
    execution_id = (await anonymous.post(form.path, json={"email": "a@example.com"})).json()["execution_id"]
    path = f"/v1/executions/{execution_id}/rerun"

    async def code() -> str:
        answer = await acme.client.post(path, json={})
        assert answer.status_code == 409
        return str(answer.json()["code"])

    assert (await rival.client.post(path, json={})).status_code == 404
    assert await code() == "execution_open"
    await set_status(database, acme, "failed", execution_id)
    assert (await acme.client.post(path, json={})).status_code == 202
    lead = (await acme.client.get("/v1/leads")).json()["data"][0]
    await acme.client.delete(f"/v1/leads/{lead['id']}")
    assert await code() == "lead_deleted"
    await acme.client.post(f"/v1/workflows/{form.workflow_id}/archive")
    assert await code() == "workflow_archived"


async def test_what_somebody_waited_for_runs_again_with_that_run_only(
    publish: Publish, acme: Tenant, database
):
    form = await publish()
    parent, child = [(await run(form)).json()["id"] for _ in range(2)]
    for one in (parent, child):
        await set_status(database, acme, "failed", one)
    await awaited(database, acme, child, by=parent)
    everything = {"workflow_id": form.workflow_id}
    assert (await acme.client.post("/v1/executions/bulk-rerun", json=everything)).json() == {"matched": 1}
    listed = (await acme.client.get("/v1/executions", params={"status": "queued"})).json()["data"]
    assert [one["rerun_of"] for one in listed] == [parent]


async def test_what_changed_meanwhile_or_cannot_be_read_is_no_rerun(publish: Publish, acme: Tenant, database):
    form = await publish()
    execution_id = (await run(form)).json()["id"]
    await set_status(database, acme, "failed", execution_id)
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text("UPDATE workflows SET deleted_at = now()"))
        asked = [UUID(execution_id)]
        assert await reruns.queue(session, acme.workspace_id, asked, start="start", latest=False) == []
        await session.rollback()
    old = (
        "INSERT INTO workflow_versions (workspace_id, id, workflow_id, version, content_hash, graph)"
        " SELECT workspace_id, :id, workflow_id, 2, '', CAST(:graph AS jsonb) FROM workflow_versions"
    )
    newest = "UPDATE workflows SET published_version_id = v.id FROM workflow_versions v WHERE version = 2"
    graph = '{"nodes": [{"id": "form", "type": 5}], "edges": []}'
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text(old), {"id": uuid4(), "graph": graph})
        await session.execute(text(newest))
    answer = await acme.client.post(f"/v1/executions/{execution_id}/rerun", json={"version": "latest"})
    assert (answer.status_code, answer.json()["code"]) == (409, "graph_unreadable")
    path = f"/v1/workflows/{form.workflow_id}/simulate"
    answer = await acme.client.post(path, json={"version": 2})
    assert (answer.status_code, answer.json()["code"]) == (409, "graph_unreadable")


async def test_a_cancel_that_comes_again_is_carried_out_again(publish: Publish, acme: Tenant, database):
    form = await publish()
    running = UUID((await run(form)).json()["id"])
    await set_status(database, acme, "running", str(running))
    due = text("SELECT count(*) FROM workflow_executions WHERE cancel_due_at IS NOT NULL")
    for _ in range(2):
        async with database.workspace(acme.workspace_id) as session:
            await cancels.ask(session, acme.workspace_id, running)
            assert await session.scalar(due) == 1
            await cancels.done(session, acme.workspace_id, [running])


async def test_who_waits_for_a_run_that_is_cancelled_before_it_began_is_told_at_once(
    publish: Publish, acme: Tenant, starter: Recorder, database
):
    form = await publish()
    starter.knows_runs = False
    parent, alone, child = [(await run(form)).json()["id"] for _ in range(3)]
    await awaited(database, acme, child, by=parent)
    for one in (child, alone):
        assert (await acme.client.post(f"/v1/executions/{one}/cancel")).json()["status"] == "cancelled"
    assert [(str(to), event.type) for to, event in starter.told] == [(parent, f"execution {child}")]

    another = (await run(form)).json()["id"]
    await awaited(database, acme, another, by=parent)
    asked = {"workflow_id": form.workflow_id, "status": "queued"}
    await acme.client.post("/v1/executions/bulk-cancel", json=asked)
    assert await Cancels(database, starter).carry_out(limit=10, stale_seconds=10) == 2
    assert starter.told[-1][1].type == f"execution {another}"


async def awaited(database, tenant: Tenant, execution_id: str, *, by: str) -> None:
    """Have one execution wait for another."""
    statement = (
        "UPDATE workflow_executions SET cause_execution_id = :parent, awaited_step = 'call:1'"
        " WHERE id = :child"
    )
    async with database.workspace(tenant.workspace_id) as session:
        await session.execute(text(statement), {"parent": by, "child": execution_id})
