"""Starting runs: what could not be started is left to the dispatchers at once."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import structlog
from sqlalchemy import text
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.clients import temporal
from activities.clients.runs import workflow_id_of
from api import starter as starting
from api.starter import AT_ONCE, Starter
from db import starts
from db.session import Database
from tests.api.conftest import Publish, Tenant
from tests.api.test_resources import run, set_status
from workflows.messages import Command

pytestmark = pytest.mark.anyio


async def test_a_run_that_cannot_be_started_is_released_and_no_more_are_tried(
    publish: Publish, anonymous, acme: Tenant, database: Database
):
    form = await publish()
    ids = []
    for number in range(3):
        answer = await anonymous.post(form.path, json={"email": f"a{number}@example.com"})
        ids.append(UUID(answer.json()["execution_id"]))
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(
            text("UPDATE workflow_executions SET locked_by = 'api-1', lock_acquired_at = now()")
        )
        found = [await starts.load(session, acme.workspace_id, one) for one in ids]
    # Nobody listens there: a lazy client fails when it is first needed.
    client = await temporal.connect("127.0.0.1:1", "default", lazy=True)
    starter = Starter(database, client, task_queue="none")
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        for start in found:
            assert start is not None
            assert not await starter.launch(start)
    assert starter.is_away
    named = {"workspace_id": str(acme.workspace_id), "execution_id": str(ids[0])}
    assert [line.items() >= named.items() for line in lines] == [True]
    async with database.workspace(acme.workspace_id) as session:
        held = await session.scalar(
            text("SELECT count(*) FROM workflow_executions WHERE locked_by IS NOT NULL")
        )
    assert held == 0


async def test_reruns_whose_histories_give_trouble_hold_up_nobody_else(
    publish: Publish, acme: Tenant, database: Database, monkeypatch: pytest.MonkeyPatch
):
    form = await publish()
    ids = [(await run(form)).json()["id"] for _ in range(AT_ONCE)]
    reruns = []
    for one in ids:
        await set_status(database, acme, "failed", one)
        answer = await acme.client.post(f"/v1/executions/{one}/rerun", json={"from": "failure"})
        reruns.append(UUID(answer.json()["id"]))
    plain = UUID((await run(form)).json()["id"])
    client = await temporal.connect("127.0.0.1:1", "default", lazy=True)
    starter = Starter(database, client, task_queue="none")
    read = asyncio.Event()

    async def slow(*_: object) -> None:
        await read.wait()
        raise RPCError("too slow", RPCStatusCode.DEADLINE_EXCEEDED, b"")

    monkeypatch.setattr(starter._rewinder, "state", slow)
    waiting = [asyncio.create_task(starter.start(acme.workspace_id, one)) for one in reruns]
    await asyncio.sleep(0.2)
    read.set()
    assert await asyncio.gather(*waiting) == [False] * AT_ONCE
    assert not starter.is_away

    read.clear()
    waiting = [asyncio.create_task(starter.start(acme.workspace_id, one)) for one in reruns]
    await asyncio.sleep(0.2)
    async with asyncio.timeout(10):
        assert not await starter.start(acme.workspace_id, plain)
    assert starter.is_away
    read.set()
    await asyncio.gather(*waiting)


async def test_a_command_that_no_worker_takes_in_is_an_outage(
    temporal_client: Client, database: Database, task_queue: str, monkeypatch: pytest.MonkeyPatch
):
    execution_id = uuid4()
    handle = await temporal_client.start_workflow(
        "ExecutionWorkflow", id=workflow_id_of(execution_id), task_queue=task_queue
    )
    monkeypatch.setattr(starting, "UPDATE_TIMEOUT", timedelta(seconds=0.3))
    starter = Starter(database, temporal_client, task_queue=task_queue)
    with pytest.raises(RPCError, match="no worker"):
        await starter.command(execution_id, "pause", Command(by="test"))
    await handle.terminate()
