"""ACTION_START_WORKFLOW: one run however often the step is repeated, and what its row says of its end."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update
from temporalio.client import Client
from uuid_utils.compat import uuid7

from db.models import Workflow, WorkflowExecution, WorkflowVersion
from db.reactions import MAX_HOPS
from tests.activities.conftest import Stage
from tests.db.conftest import settle

pytestmark = pytest.mark.anyio

START = "ACTION_START_WORKFLOW"
GRAPH = {"nodes": [{"id": "hand", "type": "TRIGGER_MANUAL"}], "edges": []}


@pytest.fixture(autouse=True)
async def published(stage: Stage) -> None:
    """Give the stage's workflow a graph with a trigger."""
    async with stage.database.workspace(stage.place.workspace_id) as session:
        key = {"workspace_id": stage.place.workspace_id, "workflow_id": stage.place.workflow_id}
        version = WorkflowVersion(**key, id=uuid7(), version=2, content_hash="1", graph=GRAPH)
        session.add(version)
        await session.flush()
        await session.execute(update(Workflow).values(published_version_id=version.id))


def calling(stage: Stage, **config: Any) -> dict[str, Any]:
    """Configure a node that starts the stage's own workflow."""
    return {"workflowId": str(stage.place.workflow_id), **config}


async def started(stage: Stage) -> list[WorkflowExecution]:
    """Read the runs that the stage's own run started, in the order they were made."""
    return [row for row in await stage.rows(WorkflowExecution) if row.cause_execution_id]


async def ends(stage: Stage, execution_id: UUID, status: str, **values: Any) -> None:
    """Have the mirror tell of an end."""
    async with stage.database.workspace(stage.place.workspace_id) as session:
        statement = update(WorkflowExecution).where(WorkflowExecution.id == execution_id)
        await session.execute(statement.values(status=status, **values))


async def test_repeats_of_a_step_order_one_run(stage: Stage):
    config = calling(stage, input={"budget": "{{ trigger.budget }}", "n": 1})
    outcomes = await asyncio.gather(*(stage.run(START, config, attempt=n) for n in range(1, 6)))
    (row,) = await started(stage)
    expected = {"execution_id": str(row.id), "workflow_id": config["workflowId"], "status": "queued"}
    assert [outcome.output for outcome in outcomes] == [expected] * 5
    assert not outcomes[0].rests
    assert (row.status, row.trigger_type, row.trigger_node_id) == ("queued", "WORKFLOW", "hand")
    assert (row.cause_execution_id, row.hops, row.awaited_step) == (stage.execution_id, 1, None)
    assert (row.lead_id, row.trigger_data) == (stage.lead_id, {"budget": "$5000", "n": 1})
    assert (await stage.uses()).count("execution_requested") == 1
    await stage.run(START, config, visit=2)
    assert len(await started(stage)) == 2


async def test_a_run_is_ordered_though_temporal_is_away(stage: Stage):
    failure = await stage.fail(START, calling(stage, wait=True))
    assert (failure.type, failure.non_retryable) == ("temporal_unavailable", False)
    (row,) = await started(stage)
    assert (row.status, row.awaited_step) == ("queued", "n1:1")


async def test_another_workspaces_workflow_is_unknown(stage: Stage):
    there = await settle(stage.database, "there")
    failure = await stage.fail(START, {"workflowId": str(there.workflow_id)})
    assert (failure.type, failure.non_retryable) == ("unknown_workflow", True)
    assert (await started(stage), await stage.effects()) == ([], {})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"status": "paused"}, "workflow_paused"),
        ({"status": "archived"}, "workflow_archived"),
        ({"status": "draft", "published_version_id": None}, "workflow_not_published"),
    ],
)
async def test_what_takes_no_runs_says_so(stage: Stage, values: dict[str, Any], reason: str):
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(update(Workflow).values(**values))
    failure = await stage.fail(START, calling(stage))
    assert (failure.type, failure.non_retryable) == (reason, True)
    assert await started(stage) == []


async def test_a_chain_ends_at_the_limit(stage: Stage):
    await ends(stage, stage.execution_id, "running", hops=MAX_HOPS)
    assert (await stage.fail(START, calling(stage))).type == "hop_limit"
    assert await started(stage) == []


async def test_a_run_that_never_began_ended_as_its_row_says(stage: Stage, temporal_client: Client):
    world = replace(stage.world, temporal=temporal_client)
    config = calling(stage, wait=True)
    await stage.fail(START, config)
    (row,) = await started(stage)
    await ends(stage, row.id, "cancelled", status_reason="cancelled")
    failure = await stage.fail(START, config, world=world)
    assert (failure.type, failure.non_retryable) == ("child_cancelled", True)
    assert failure.message == f"The execution {row.id} was cancelled (cancelled)."
    (row,) = await started(stage)
    assert row.collected_at is not None
    lenient = await stage.run(START, {**config, "onChildFailure": "continue"}, world=world)
    assert lenient.output["status"] == "cancelled"


async def test_a_step_that_is_tried_again_starts_another_run_in_place_of_the_failed_one(
    stage: Stage, temporal_client: Client
):
    world = replace(stage.world, temporal=temporal_client)
    config = calling(stage, wait=True)
    await stage.fail(START, config)
    (first,) = await started(stage)
    await ends(stage, first.id, "failed", status_reason="node_failed", error={"message": "no luck"})
    failure = await stage.fail(START, config, world=world)
    assert failure.message == f"The execution {first.id} failed (node_failed): no luck"
    again = [await stage.run(START, config, world=world, retries=1) for _ in range(2)]
    _, second = await started(stage)
    assert [outcome.output["execution_id"] for outcome in again] == [str(second.id)] * 2
    assert again[0].waits_for == (f"execution {second.id}",)
    await ends(stage, first.id, "completed")
    kept = await stage.run(START, config, world=world, retries=1)
    assert (kept.output["execution_id"], kept.rests) == (str(first.id), False)
