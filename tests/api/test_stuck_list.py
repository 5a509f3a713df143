"""The list of stuck executions: asked of the rows first and then of Temporal, with every other filter."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from temporalio.client import Client
from uuid_utils.compat import uuid7

from api.app import Config, create_app
from api.live.describer import Described, Describer, Temporals
from db.session import Database
from tests.api.conftest import Recorder, Tenant, key, speaking
from tests.db.conftest import Place, queued, settle

pytestmark = pytest.mark.anyio

LONG_AGO = datetime.now(UTC) - timedelta(hours=2)
PATH = "/v1/executions"


def app_with(database: Database, config: Config, describer: Describer) -> FastAPI:
    return create_app(database, Recorder(), config=config, describer=describer)


@pytest.fixture
async def here(database: Database) -> Place:
    return await settle(database, "here")


@pytest.fixture
async def client(
    database: Database, config: Config, temporal_client: Client, here: Place
) -> AsyncIterator[Any]:
    app = app_with(database, config, Temporals(temporal_client))
    async with speaking(app, await key(database, here.workspace_id, ["executions:read"])) as speaker:
        yield speaker


async def stored(database: Database, place: Place, **values: Any) -> UUID:
    run = queued(place, id=uuid7(), **{"queued_at": LONG_AGO, **values})
    async with database.workspace(place.workspace_id) as session:
        session.add(run)
    return run.id


async def listed(client: Any, **query: Any) -> list[tuple[str, str]]:
    """Read all pages; each has what its limit says, at most."""
    found: list[tuple[str, str]] = []
    cursor = None
    while True:
        asked = {"stuck": "true", "limit": 2, **query, **({"cursor": cursor} if cursor else {})}
        answer = await client.get(PATH, params=asked)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["data"]) <= asked["limit"]
        found += [(run["id"], run["stuck"]["reason"]) for run in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def test_stuck_runs_are_listed_newest_first_each_once_with_their_reason(
    database: Database, here: Place, client: Any, temporal_client: Client, task_queue: str
):
    never = [await stored(database, here) for _ in range(4)]
    over = await stored(database, here, status="running", dispatched_at=LONG_AGO, updated_at=LONG_AGO)
    handle = await temporal_client.start_workflow(
        "ExecutionWorkflow", id=f"execution-{over}", task_queue=task_queue
    )
    await handle.terminate()
    await stored(database, here, queued_at=datetime.now(UTC))
    await stored(database, here, status="completed", updated_at=LONG_AGO)
    await stored(database, await settle(database, "rival"))
    expected = [(str(over), "not_mirrored"), *((str(one), "not_started") for one in reversed(never))]
    for limit in (1, 2, 5, 100):
        assert await listed(client, limit=limit) == expected
    (run,) = (await client.get(PATH, params={"stuck": "true", "limit": 1})).json()["data"]
    assert datetime.fromisoformat(run["stuck"]["since"]) == LONG_AGO
    assert run["status"] == "running"


async def test_the_filter_goes_with_all_others(database: Database, here: Place, client: Any):
    early = await stored(database, here, queued_at=LONG_AGO - timedelta(days=1))
    late = await stored(database, here)
    assert await listed(client, queued_after=LONG_AGO.isoformat()) == [(str(late), "not_started")]
    assert await listed(client, queued_before=LONG_AGO.isoformat()) == [(str(early), "not_started")]
    assert len(await listed(client, status="queued", workflow_id=here.workflow_id)) == 2
    assert await listed(client, status="waiting") == []
    assert await listed(client, status="completed") == []
    assert await listed(client, workflow_id=uuid7()) == []
    everything = (await client.get(PATH, params={"stuck": "false"})).json()["data"]
    assert [(run["id"], run["stuck"]) for run in everything] == [(str(late), None), (str(early), None)]


async def test_a_cursor_is_good_for_the_list_of_stuck_ones_only(database: Database, here: Place, client: Any):
    for _ in range(3):
        await stored(database, here)
    page = (await client.get(PATH, params={"stuck": "true", "limit": 2})).json()
    refused = await client.get(PATH, params={"limit": 2, "cursor": page["next_cursor"]})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize("value", ["maybe", "", "2"])
async def test_what_is_neither_true_nor_false_is_refused_by_name(acme: Tenant, value: str):
    refused = await acme.client.get(PATH, params={"stuck": value})
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert (error["code"], error["parameter"]) == ("bool_parsing", "stuck")


async def test_while_temporal_is_away_the_list_is_not_given(database: Database, here: Place, config: Config):
    await stored(database, here)
    app = create_app(database, Recorder(), config=config)
    async with speaking(app, await key(database, here.workspace_id, ["*"])) as client:
        refused = await client.get(PATH, params={"stuck": "true"})
        assert refused.status_code == 503
        assert "Temporal" in refused.json()["detail"]
        assert (await client.get(PATH)).status_code == 200


async def test_temporal_is_asked_about_a_hundred_in_one_request_and_the_cursor_leads_on(
    database: Database, here: Place, config: Config
):
    last = await stored(database, here, status="running", updated_at=LONG_AGO)
    for _ in range(104):
        await stored(database, here, status="running", updated_at=LONG_AGO)
    asked: list[UUID] = []

    class Known:
        """Knows that all are well but the last."""

        async def look(self, execution_id: UUID) -> Described:
            asked.append(execution_id)
            return Described(run_id="r", is_paused=execution_id != last)

    app = app_with(database, config, Known())
    async with speaking(app, await key(database, here.workspace_id, ["*"])) as client:
        page = (await client.get(PATH, params={"stuck": "true"})).json()
        assert (page["data"], len(asked)) == ([], 100)
        assert await listed(client) == [(str(last), "idle")]
    assert len(asked) == 100 + 105
    assert set(asked[100:]) == set(asked)
