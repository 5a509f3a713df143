"""What big graphs cost: one event for each node that is carried out, however many there are."""

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
    ("drawn", "carried_out"),
    [(shapes.long(), shapes.NODES - 1), (shapes.wide(), 2 * shapes.BRANCHES + 1)],
    ids=["200 nodes in a row", "50 branches and a join"],
)
async def test_a_big_graph_costs_an_event_for_each_node(
    house: House, drawn: dict[str, Any], carried_out: int
):
    workflow = await house.workflow(drawn, fields=())
    execution_id = await house.start(workflow, amount=250)
    run = await house.ended(execution_id, patience=90)
    assert run["status"] == "completed", run
    counted = Counter(event.event_type for event in await house.history(execution_id))
    assert counted[EventType.EVENT_TYPE_MARKER_RECORDED] == carried_out
    assert counted.total() <= carried_out + AROUND, counted
