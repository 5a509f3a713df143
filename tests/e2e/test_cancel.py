"""Cancelling ends a run within ten seconds, wherever it is, and shows what it did not do."""

import asyncio
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import CancelledError

from activities.clients import runs
from db import starts
from db.session import Database
from db.starts import Start
from tests.e2e.graphs import chain, node
from tests.e2e.house import House, ok

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")
AT_MOST = 10.0
AHEAD = "SELECT id FROM workflow_executions WHERE cancel_due_at > cancel_requested_at"


def step(house: House, where: str) -> dict[str, Any]:
    """Write the step in which the run is cancelled."""
    if where == "delay":
        return node("step", "LOGIC_DELAY", duration="P14D")
    retry = {"maxAttempts": 5, "initialSeconds": 300, "maxIntervalSeconds": 300}
    return node("step", "ACTION_HTTP_REQUEST", url=house.target.url, timeoutSeconds=60, retry=retry)


@pytest.mark.parametrize("where", ["delay", "retry wait", "activity"])
async def test_a_cancelled_run_ends_within_ten_seconds(house: House, where: str):
    if where == "retry wait":
        house.target.answers.extend([503] * 5)
    house.target.held = asyncio.Event()
    if where != "activity":
        house.target.held.set()
    workflow = await house.workflow(chain(FORM, step(house, where), node("log", "UTILITY_LOG", message="on")))
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until_step(execution_id, "step", "running")
    if where != "delay":
        while not house.target.requests:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)

    began = monotonic()
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    run = await house.ended(execution_id, patience=AT_MOST)
    assert monotonic() - began < AT_MOST
    house.target.held.set()

    assert (run["status"], run["status_reason"]) == ("cancelled", "cancelled")
    steps = await house.steps(execution_id)
    assert steps["step"]["status"] == "cancelled"
    assert "log" not in steps
    assert len(house.target.requests) == (0 if where == "delay" else 1)


async def test_a_dozen_waiting_runs_are_cancelled_by_one_request(house: House):
    workflow = await house.workflow(chain(FORM, node("nap", "LOGIC_DELAY", duration="P14D")))
    other = await house.workflow(chain(FORM, node("nap", "LOGIC_DELAY", duration="P14D")), name="Other")
    spared = await house.submit(other, {"email": "ada@example.com"})
    runs = [await house.submit(workflow, {"email": f"lead{number}@example.com"}) for number in range(12)]
    for execution_id in (*runs, spared):
        await house.until(execution_id, lambda run: run["status"] == "waiting", patience=60)

    began = monotonic()
    body = {"status": "waiting", "workflow_id": workflow["id"]}
    answer = await ok(house.api.post("/v1/executions/bulk-cancel", json=body))
    assert (answer.status_code, answer.json()) == (202, {"matched": 12})
    for execution_id in runs:
        assert (await house.ended(execution_id))["status"] == "cancelled"
    assert monotonic() - began < 3 * AT_MOST
    assert (await ok(house.api.get(f"/v1/executions/{spared}"))).json()["status"] == "waiting"
    assert await house.rows("SELECT id FROM workflow_executions WHERE cancel_due_at IS NOT NULL") == []


# ── a cancel that falls between a run's admission and its start


async def caught(house: House, monkeypatch: pytest.MonkeyPatch) -> tuple[UUID, asyncio.Event]:
    """Have a starter stand still where it has admitted a run and not yet started it."""
    reached, go, admitted = asyncio.Event(), asyncio.Event(), starts.admitted

    async def slowly(database: Database, start: Start) -> Start:
        found = await admitted(database, start)
        assert found.input.begun is not None
        reached.set()
        await go.wait()
        return found

    monkeypatch.setattr(starts, "admitted", slowly)
    workflow = await house.workflow(chain(FORM, node("nap", "LOGIC_DELAY", duration="P14D")))
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await reached.wait()
    return execution_id, go


async def expect_cancelled(house: House, execution_id: UUID) -> None:
    """Wait until Temporal has ended the run, its row tells so and nobody asks any more."""
    due = "SELECT id FROM workflow_executions WHERE cancel_due_at IS NOT NULL"
    handle = house.temporal.get_workflow_handle(f"execution-{execution_id}")
    async with asyncio.timeout(2 * AT_MOST):
        while not await runs.is_known(house.temporal, execution_id):
            await asyncio.sleep(0.05)
        with pytest.raises(WorkflowFailureError) as ended:
            await handle.result()
        while await house.rows(due):
            await asyncio.sleep(0.05)
    assert isinstance(ended.value.cause, CancelledError)
    await house.until(execution_id, lambda run: run["temporal"]["run_id"] and run["status"] == "cancelled")
    assert list(await house.steps(execution_id)) == ["form", "nap"]


async def test_a_cancel_between_the_admission_and_the_start_ends_the_run(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    execution_id, go = await caught(house, monkeypatch)
    answer = await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    assert answer.json()["status"] == "cancelled"
    # As if it had been forgotten since: the starter lives on, and its note has the dispatcher ask.
    await house.rows("UPDATE workflow_executions SET cancel_due_at = NULL RETURNING id")
    go.set()
    await expect_cancelled(house, execution_id)


@pytest.mark.parametrize("way", ["cancel", "bulk-cancel"])
async def test_a_cancel_between_the_admission_and_the_start_outlives_the_starter(
    house: House, monkeypatch: pytest.MonkeyPatch, way: str
):
    begin = runs.begin

    async def last(*args: Any, **options: Any) -> None:
        await begin(*args, **options)
        raise asyncio.CancelledError

    monkeypatch.setattr(runs, "begin", last)
    execution_id, go = await caught(house, monkeypatch)
    one, all_ = f"/v1/executions/{execution_id}/cancel", "/v1/executions/bulk-cancel"
    await ok(house.api.post(one) if way == "cancel" else house.api.post(all_, json={"status": "queued"}))
    if way == "bulk-cancel":
        # The dispatcher has asked for it, in vain.
        async with asyncio.timeout(AT_MOST):
            while not await house.rows(AHEAD):
                await asyncio.sleep(0.05)
    go.set()
    await expect_cancelled(house, execution_id)
