"""The dispatcher carries what happens to leads to the runs that wait for it, and forgets nothing."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select, update
from temporalio.service import RPCError, RPCStatusCode

from api.dispatcher import Dispatcher
from db.cancels import UNDER_WAY
from db.models import EventWake, WorkflowExecution
from db.session import Database
from tests.api.conftest import Publish, Recorder, Tenant
from tests.api.test_resources import run

pytestmark = pytest.mark.anyio

EMAIL = {"field_key": "email", "label": "E-mail", "field_type": "EMAIL", "is_required": True}


def drawn(id_: str, type_: str, **config: Any) -> dict[str, Any]:
    return {"id": id_, "type": type_, "position": {"x": 0, "y": 0}, "data": {"config": config}}


@pytest.fixture
async def lead_path(acme: Tenant, anonymous: httpx.AsyncClient, database: Database) -> str:
    """Have a run wait for its lead's status to change; return where the lead is changed."""
    workflow = await acme.make("/v1/workflows", {"name": "Waiting"})
    await acme.make(f"/v1/workflows/{workflow['id']}/form-fields", EMAIL)
    wait = drawn("wait", "LOGIC_WAIT_FOR_EVENT", events=[{"id": "moved", "type": "STATUS_CHANGED"}])
    document = {
        "nodes": [drawn("form", "TRIGGER_FORM"), wait],
        "edges": [{"id": "e", "source": "form", "target": "wait"}],
        "viewport": {"x": 0, "y": 0, "zoom": 1},
    }
    await acme.graph(workflow["id"], document)
    await acme.make(f"/v1/workflows/{workflow['id']}/publish", {}, 200)
    answer = await anonymous.post(f"/f/acme/{workflow['slug']}", json={"email": "ada@example.com"})
    async with database.workspace(acme.workspace_id) as session:
        execution = await session.get_one(WorkflowExecution, UUID(answer.json()["execution_id"]))
        execution.status = "waiting"
        return f"/v1/leads/{execution.lead_id}"


@pytest.fixture
def dispatcher(database: Database, starter: Recorder) -> Dispatcher:
    return Dispatcher(database, starter, name="test", stale_seconds=0)  # type: ignore[arg-type] # a recorder


async def left(database: Database, acme: Tenant) -> int:
    async with database.workspace(acme.workspace_id) as session:
        return (await session.execute(select(func.count()).select_from(EventWake))).scalar_one()


async def test_a_wake_is_kept_while_temporal_is_away_and_carried_in_order_when_it_is_back(
    lead_path: str, acme: Tenant, database: Database, dispatcher: Dispatcher, starter: Recorder
):
    for status in ("QUALIFIED", "WON"):
        assert (await acme.client.patch(lead_path, json={"status": status})).status_code == 200
    starter.reachable = False
    assert await dispatcher.dispatch() == 0
    starter.reachable, starter.failure = True, RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
    assert await dispatcher.dispatch() == 2
    assert (starter.told, await left(database, acme)) == ([], 2)

    starter.failure = None
    await dispatcher.dispatch()
    assert await left(database, acme) == 0
    events = (await acme.client.get(f"{lead_path}/events")).json()["data"]
    moved = [event["id"] for event in reversed(events) if event["event_type"] == "STATUS_CHANGED"]
    heard = [event for _, event in starter.told]
    assert [event.id for event in heard] == moved
    # A history holds no personal data of an event: the wait reads it where it stands.
    assert {(event.type, event.data) for event in heard} == {("STATUS_CHANGED", None)}
    await dispatcher.dispatch()
    assert len(starter.told) == 2


async def test_a_run_that_is_over_is_told_no_more(
    lead_path: str, acme: Tenant, database: Database, dispatcher: Dispatcher, starter: Recorder
):
    assert (await acme.client.patch(lead_path, json={"status": "WON"})).status_code == 200
    starter.knows_runs = False
    await dispatcher.dispatch()
    assert await left(database, acme) == 0


async def test_a_defect_costs_a_round_and_not_the_dispatcher(database: Database, starter: Recorder):
    rounds: list[int] = []

    async def reachable() -> bool:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise LookupError("a defect of ours")
        return False

    starter.is_reachable = reachable  # type: ignore[method-assign] # breaks once
    dispatcher = Dispatcher(database, starter, name="test", interval=0.01)  # type: ignore[arg-type] # a recorder
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(dispatcher.run(), 0.5)
    assert len(rounds) > 1


async def test_a_cancel_that_temporal_does_not_know_of_is_asked_again_until_no_start_can_be_under_way(
    publish: Publish, acme: Tenant, database: Database, dispatcher: Dispatcher, starter: Recorder
):
    """The start may have found no cancel and be on its way: what Temporal does not know yet may come."""
    execution_id = (await run(await publish())).json()["id"]
    starter.knows_runs = False
    assert (await acme.client.post(f"/v1/executions/{execution_id}/cancel")).status_code == 202
    await aged(database, acme, seconds=UNDER_WAY.total_seconds() - 5)
    for _ in range(2):
        await dispatcher.dispatch()
    assert [str(one) for one in starter.cancelled] == [execution_id] * 3

    await aged(database, acme, seconds=UNDER_WAY.total_seconds() + 1)
    for _ in range(2):
        await dispatcher.dispatch()
    assert len(starter.cancelled) == 4


async def aged(database: Database, acme: Tenant, *, seconds: float) -> None:
    """Let time pass since cancels were asked for."""
    past = func.now() - timedelta(seconds=seconds)
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(update(WorkflowExecution).values(cancel_requested_at=past, cancel_due_at=past))
