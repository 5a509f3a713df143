"""How often a step waits for PostgreSQL: for logic never, for an effect as often as stands here."""

import contextlib
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from tests.activities.conftest import Stage, activity_of
from tests.budgets.counting import Wire
from workflows import nodes

pytestmark = pytest.mark.anyio

LOGIC = [name for name, node_type in nodes.types().items() if node_type.decides]
CONFIGS: dict[str, dict[str, Any]] = {
    "ACTION_UPDATE_LEAD": {"set": {"company": "Engines Ltd", "budget": "7000"}},
    # Nobody is to be asked by mail.
    "LOGIC_APPROVAL": {"message": "Send {{ lead.name }} the offer?"},
}
EFFECTS = {
    "ACTION_ADD_LEAD_EVENT": 6,
    "ACTION_SET_LEAD_STATUS": 8,
    "ACTION_UPDATE_LEAD": 11,
    "ACTION_SEND_EMAIL": 15,
    "ACTION_DELIVER_WEBHOOK": 5,
}
"""BEGIN with the settings of the transaction counts, and COMMIT; so does each statement between them.

A mail takes two transactions: one before it is sent, one after. The webhook has nobody to go to here."""


async def trips(stage: Stage, name: str) -> int:
    """Run a node's example and count; its connection is warm, as a worker's are."""
    given = await stage.given(name, CONFIGS.get(name, nodes.types()[name].example))
    run, environment = activity_of(name, stage.world), ActivityEnvironment()
    with Wire().traced(stage.database) as wire, contextlib.suppress(ApplicationError):
        await environment.run(run, given)
    return wire.trips


@pytest.mark.parametrize("name", LOGIC)
async def test_a_logic_step_never_waits_for_the_database(name: str, stage: Stage):
    stage.trigger = {"budget": "$10000+"}
    assert await trips(stage, name) == 0


@pytest.mark.parametrize("name", EFFECTS)
async def test_an_effect_waits_for_the_database_as_often_as_agreed(name: str, stage: Stage):
    assert await trips(stage, name) == EFFECTS[name]
