"""A run that rests is no suspect, and its rows say until when: as the mirror really writes them."""

from datetime import timedelta

import pytest

from db import stuck
from tests.e2e.graphs import chain, node
from tests.e2e.house import House

pytestmark = pytest.mark.anyio


async def suspects(house: House, silent_for: timedelta) -> list[stuck.Suspect]:
    async with house.database.door() as session:
        found, _ = await stuck.suspects(session, silent_for=silent_for, after=stuck.BEGINNING, limit=100)
    return found


async def test_a_sleeping_run_is_overdue_by_the_time_its_rows_hold(house: House):
    sleepy = chain(node("start", "TRIGGER_FORM"), node("nap", "LOGIC_DELAY", duration="PT1H"))
    run = await house.submit(await house.workflow(sleepy), {"email": "ada@example.com"})
    await house.until(run, lambda shown: shown["status"] == "waiting")
    assert await suspects(house, timedelta(0)) == []
    # Asked as if it were two hours later.
    (one,) = await suspects(house, timedelta(hours=-2))
    assert (one.execution_id, one.status) == (run, "waiting")
    (row,) = await house.rows("SELECT started_at FROM workflow_executions")
    assert abs(one.since - row["started_at"] - timedelta(hours=1)) < timedelta(seconds=30)
    await house.api.post(f"/v1/executions/{run}/cancel")
    await house.ended(run)
