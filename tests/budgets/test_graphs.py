"""What big graphs cost: at most one event for each node, and far fewer where nodes stand in a row."""

from collections import Counter
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from tests.budgets import shapes
from tests.e2e.house import House

pytestmark = pytest.mark.anyio

AROUND = 20
"""Events of the run itself: its beginning and its end, and the workflow tasks between."""


@pytest.mark.parametrize(
    ("drawn", "most"),
    # Those in a row share activities of a second each; side by side none can.
    [(shapes.long(), shapes.NODES // 4), (shapes.wide(), 2 * shapes.BRANCHES + 1)],
    ids=["200 nodes in a row", "50 branches and a join"],
)
async def test_a_big_graph_costs_few_events(house: House, drawn: dict[str, Any], most: int):
    workflow = await house.workflow(drawn, fields=())
    execution_id = await house.start(workflow, amount=250)
    run = await house.ended(execution_id, patience=90)
    assert run["status"] == "completed", run
    counted = Counter(event.event_type for event in await house.history(execution_id))
    assert counted[EventType.EVENT_TYPE_MARKER_RECORDED] <= most
    assert counted.total() <= most + AROUND, counted
    statuses = await house.rows("SELECT status, count(*) FROM execution_steps GROUP BY status")
    assert statuses == [{"status": "completed", "count": len(drawn["nodes"])}]
