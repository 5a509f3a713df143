"""How often a step waits for PostgreSQL: for logic never, for an effect as often as stands here."""

import contextlib
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.begin import Begin
from db import endpoints, quotas, starts
from db.session import fetch
from tests.activities.conftest import Stage, activity_of
from tests.activities.test_begin import ordered
from tests.budgets.counting import Wire, statements
from workflows import nodes
from workflows.messages import BeginInput

pytestmark = pytest.mark.anyio

LOGIC = [name for name, node_type in nodes.types().items() if node_type.decides]
CONFIGS: dict[str, dict[str, Any]] = {
    "ACTION_UPDATE_LEAD": {"set": {"company": "Engines Ltd", "budget": "7000"}},
    # Nobody is to be asked by mail.
    "LOGIC_APPROVAL": {"message": "Send {{ lead.name }} the offer?"},
}
EFFECTS = {
    "ACTION_ADD_LEAD_EVENT": 1,
    "ACTION_SET_LEAD_STATUS": 1,
    "ACTION_UPDATE_LEAD": 2,
    "ACTION_SEND_EMAIL": 3,
    "ACTION_DELIVER_WEBHOOK": 1,
}
"""One message is a transaction whole; where Python decides, BEGIN, each statement and COMMIT count.

An update reads the lead, works out the change and writes it; a mail reads whom it goes to, reserves and
confirms. The webhook has nobody to go to here."""
DELIVERED = 2
"""A webhook that one endpoint takes: posted, and settled."""
INTAKE = ("ACTION_SET_LEAD_STATUS", "ACTION_SEND_EMAIL", "ACTION_DELIVER_WEBHOOK")
BEGIN = 1
PERIODS = ("executions", "email_sends")


async def opened(stage: Stage) -> None:
    """Open the quotas' periods, as the month's first run has."""
    async with stage.database.workspace(stage.place.workspace_id) as session:
        for name in PERIODS:
            await quotas.consume(session, stage.place.workspace_id, name, 0)


async def trips(stage: Stage, name: str) -> int:
    """Run a node's example and count; its connection is warm, as a worker's are."""
    given = await stage.given(name, CONFIGS.get(name, nodes.types()[name].example))
    run, environment = activity_of(name, stage.world), ActivityEnvironment()
    with Wire().traced(stage.database) as wire, contextlib.suppress(ApplicationError):
        await environment.run(run, given)
    return wire.trips


def beginning(stage: Stage) -> BeginInput:
    place = stage.place
    ids = {"workspace_id": place.workspace_id, "workflow_id": place.workflow_id}
    return BeginInput(**ids, execution_id=stage.execution_id, lead_id=stage.lead_id)


@pytest.mark.parametrize("name", LOGIC)
async def test_a_logic_step_never_waits_for_the_database(name: str, stage: Stage):
    stage.trigger = {"budget": "$10000+"}
    assert await trips(stage, name) == 0


@pytest.mark.parametrize("name", EFFECTS)
async def test_an_effect_waits_for_the_database_as_often_as_agreed(name: str, stage: Stage):
    await opened(stage)
    assert await trips(stage, name) == EFFECTS[name]


async def test_a_webhook_waits_for_the_database_twice_for_its_endpoint(stage: Stage, httpserver: HTTPServer):
    httpserver.expect_request("/hook").respond_with_data("ok")
    example = nodes.types()["ACTION_DELIVER_WEBHOOK"].example
    values = {"url": httpserver.url_for("/hook"), "subscribed_events": [example["eventType"]]}
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await endpoints.create(session, stage.place.workspace_id, values, key=stage.world.master_key)
    assert await trips(stage, "ACTION_DELIVER_WEBHOOK") == DELIVERED
    ((outcome,),) = await fetch(
        stage.database.single(stage.place.workspace_id), "SELECT status FROM webhook_deliveries", {}
    )
    assert outcome == "delivered"


async def test_a_run_waits_for_the_database_as_often_as_agreed_to_begin(stage: Stage):
    await opened(stage)
    with Wire().traced(stage.database) as wire:
        await ActivityEnvironment().run(Begin(stage.world).begin, beginning(stage))
    assert wire.trips == BEGIN


async def test_whoever_starts_a_run_waits_for_the_database_once_to_admit_it(stage: Stage):
    await opened(stage)
    with Wire().traced(stage.database) as wire:
        start = await starts.admitted(stage.database, ordered(stage))
    assert start.input.begun is not None
    assert wire.trips == BEGIN


async def test_what_every_run_pays_for_is_sent_by_the_driver_itself(stage: Stage):
    """By SQLAlchemy a statement costs the worker four times as much (ADR 0010)."""
    await opened(stage)
    given = {name: await stage.given(name, nodes.types()[name].example) for name in INTAKE}
    with statements(stage.database) as sent:
        assert (await starts.admitted(stage.database, ordered(stage))).input.begun is not None
        for name in INTAKE:
            await ActivityEnvironment().run(activity_of(name, stage.world), given[name])
    assert sent == []
