"""What the rows tell operators: numbers over all workspaces, and nothing of any of them."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import update
from uuid_utils.compat import uuid7

from api import metrics
from api.metrics import Metrics, Rows
from db import effects
from db.effects import EffectKey
from db.models import Effect, Workflow
from db.session import Database
from tests.budgets.counting import statements
from tests.db.conftest import Place, queued, settle

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


async def shown(rows: Rows, registry: CollectorRegistry) -> dict[str, float]:
    await rows.refresh()
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


async def ordered(database: Database, place: Place, **values: object) -> EffectKey:
    run = queued(place, id=uuid7(), **values)
    async with database.workspace(place.workspace_id) as session:
        session.add(run)
    return EffectKey(
        workspace_id=place.workspace_id, execution_id=run.id, node_id="mail", visit=1, effect="mail"
    )


@pytest.fixture
async def here(database: Database) -> Place:
    return await settle(database, "here")


@pytest.fixture
async def there(database: Database) -> Place:
    return await settle(database, "there")


async def test_what_waits_is_counted_over_all_workspaces_with_its_age(
    database: Database, here: Place, there: Place
):
    now = datetime.now(UTC)
    await ordered(database, here, queued_at=now - 2 * HOUR)
    first = await ordered(database, there, queued_at=now - HOUR)
    await ordered(database, there, queued_at=now, rerun_of=first.execution_id)
    await ordered(database, there, status="waiting", dispatched_at=now)
    await ordered(database, there, status="completed", dispatched_at=now)
    registry = CollectorRegistry()
    found = await shown(Rows(database, registry), registry)
    assert found['flowtrack_executions_open{status="queued"}'] == 3
    assert found['flowtrack_executions_open{status="running"}'] == 0
    assert found['flowtrack_executions_open{status="waiting"}'] == 1
    assert found['flowtrack_outbox_rows{outbox="starts"}'] == 2
    assert found['flowtrack_outbox_rows{outbox="reruns"}'] == 1
    assert 7200 <= found['flowtrack_outbox_oldest_seconds{outbox="starts"}'] < 7260
    assert found['flowtrack_outbox_rows{outbox="wakes"}'] == 0
    assert found["flowtrack_rows_readable"] == 1


async def test_runs_that_a_paused_workflow_holds_are_no_backlog(database: Database, here: Place):
    await ordered(database, here)
    async with database.workspace(here.workspace_id) as session:
        await session.execute(update(Workflow).values(status="paused"))
    registry = CollectorRegistry()
    found = await shown(Rows(database, registry), registry)
    assert found['flowtrack_executions_open{status="queued"}'] == 1
    assert found['flowtrack_outbox_rows{outbox="starts"}'] == 0


async def test_effects_are_in_doubt_when_unknown_or_reserved_for_too_long(database: Database, here: Place):
    old, young, done = [await ordered(database, here) for _ in range(3)]
    async with database.workspace(here.workspace_id) as session:
        for key in (old, young, done):
            await effects.reserve(session, key)
        await effects.confirm(session, done, {})
        late = datetime.now(UTC) - HOUR
        for key in (old, done):
            mine = Effect.execution_id == key.execution_id
            await session.execute(update(Effect).where(mine).values(reserved_at=late))
    registry = CollectorRegistry()
    found = await shown(Rows(database, registry), registry)
    assert found['flowtrack_effects_in_doubt{status="reserved"}'] == 1
    assert found['flowtrack_effects_in_doubt{status="unknown"}'] == 0


async def test_the_rows_are_asked_in_one_statement_and_not_at_every_scrape(
    database: Database, here: Place, monkeypatch: pytest.MonkeyPatch
):
    registry = CollectorRegistry()
    rows = Rows(database, registry)
    with statements(database) as sent:
        for _ in range(5):
            await rows.refresh()
    assert len(sent) == 1
    monkeypatch.setattr(metrics, "FRESH", 0)
    with statements(database) as sent:
        await rows.refresh()
    assert len(sent) == 1


async def test_without_a_database_the_page_says_that_its_numbers_are_old():
    away, registry = Database("postgresql://nobody@127.0.0.1:1/nothing"), CollectorRegistry()
    assert (await shown(Rows(away, registry), registry))["flowtrack_rows_readable"] == 0
    await away.close()


async def test_no_label_holds_an_id_and_a_client_cannot_make_series(database: Database, here: Place):
    counted = Metrics()
    for method in ("GET", "BREW", "FROB"):
        counted.answered(method, "/v1/leads/{lead_id}", 200, 0.1)
    await ordered(database, here)
    await Rows(database, counted.registry).refresh()
    text = generate_latest(counted.registry).decode()
    assert 'method="other"' in text
    assert "BREW" not in text
    assert str(here.workspace_id) not in text
    assert "here" not in {
        word for line in text.splitlines() if not line.startswith("#") for word in line.split('"')
    }
