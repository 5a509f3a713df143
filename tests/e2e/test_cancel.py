"""Cancelling ends a run within ten seconds, wherever it is, and shows what it did not do."""

import asyncio
from time import monotonic
from typing import Any

import pytest

from tests.e2e.graphs import chain, node
from tests.e2e.house import House, ok

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")
AT_MOST = 10.0


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
