"""Which share of a busy worker a workspace has stands in its plan, and comes with what a start reads."""

import pytest
from sqlalchemy import insert, select, text, update
from uuid_utils.compat import uuid7

from db import forms, starts
from db.models import Subscription, SubscriptionPlan, Workflow, WorkflowExecution, WorkflowVersion
from db.session import Database
from tests.db.conftest import Place, settle

pytestmark = pytest.mark.anyio

GRAPH = {"nodes": [{"id": "form", "type": "TRIGGER_FORM"}], "edges": []}


async def queued(database: Database, place: Place, **values: object) -> starts.Start:
    """Queue a run and read what starts it."""
    run = {"workspace_id": place.workspace_id, "id": uuid7(), "workflow_id": place.workflow_id}
    how = {"trigger_type": "FORM", "trigger_node_id": "form", "status": "queued", **values}
    async with database.workspace(place.workspace_id) as session:
        await session.execute(
            insert(WorkflowExecution).values(**run, **how, workflow_version_id=place.version_id)
        )
        found = await starts.load(session, place.workspace_id, run["id"])
    assert found is not None
    return found


async def form(database: Database, place: Place) -> forms.Form:
    async with database.workspace(place.workspace_id) as session:
        found = await forms.load(session, place.workspace_id, place.workflow_id)
    assert found is not None
    return found


async def drawn(database: Database, place: Place) -> None:
    """Publish a version with a form."""
    async with database.workspace(place.workspace_id) as session:
        of = {"workspace_id": place.workspace_id, "workflow_id": place.workflow_id}
        version = WorkflowVersion(**of, id=uuid7(), version=2, content_hash="1", graph=GRAPH)
        session.add(version)
        await session.flush()
        await session.execute(update(Workflow).values(published_version_id=version.id))


async def subscribe(database: Database, place: Place, slug: str) -> None:
    plan = select(SubscriptionPlan.id).where(SubscriptionPlan.slug == slug).scalar_subquery()
    async with database.workspace(place.workspace_id) as session:
        await session.execute(update(Subscription).values(subscription_plan_id=plan))


async def test_each_plan_has_its_own_share(database: Database):
    async with database.door() as session:
        found = await session.execute(text("SELECT slug, fairness_weight FROM subscription_plans"))
        assert {row.slug: row.fairness_weight for row in found} == {"free": 1, "starter": 2, "pro": 5}


async def test_a_start_knows_the_share_of_its_workspace(database: Database):
    free, pro = await settle(database, "free"), await settle(database, "pro", plan="pro")
    assert (await queued(database, free)).weight == 1
    assert (await queued(database, pro)).weight == 5
    async with database.workspace(pro.workspace_id) as session:
        await session.execute(update(Subscription).values(status="cancelled"))
    assert (await queued(database, pro)).weight == 1


async def test_a_form_that_is_known_by_heart_is_stale_after_a_change_of_plan(database: Database):
    here, elsewhere = await settle(database, "here"), await settle(database, "elsewhere")
    await drawn(database, here)
    before = await form(database, here)
    await subscribe(database, elsewhere, "pro")
    assert await form(database, here) == before
    await subscribe(database, here, "pro")
    after = await form(database, here)
    assert (before.weight, after.weight) == (1, 5)
    assert before.stamp != after.stamp


@pytest.mark.parametrize(
    ("values", "waits_behind"),
    [
        ({}, False),
        ({"trigger_type": "API"}, False),
        ({"trigger_type": "WORKFLOW"}, False),
        ({"trigger_type": "SCHEDULE"}, True),
        ({"rerun_from": {"from": "start"}}, True),
    ],
)
async def test_schedules_and_reruns_wait_behind_the_runs_that_somebody_waits_for(
    database: Database, values: dict[str, object], waits_behind: bool
):
    place = await settle(database, "here")
    assert (await queued(database, place, **values)).waits_behind is waits_behind
