"""A run is admitted once, where it is started or by its first activity; what was withdrawn never begins."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from sqlalchemy import text
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.begin import Begin
from db import quotas, starts
from db.session import Database
from db.starts import Start
from tests.activities.conftest import Stage
from tests.workflows.drawn import execution
from workflows.graph import Graph
from workflows.messages import BeginInput, Begun

pytestmark = pytest.mark.anyio

Meddle = Callable[[Stage], Awaitable[None]]


def ordered(stage: Stage) -> Start:
    place, ids = stage.place, {"execution_id": stage.execution_id, "lead_id": stage.lead_id}
    ids |= {"workspace_id": place.workspace_id, "workflow_id": place.workflow_id}
    given = execution(Graph(nodes=(), edges=())).model_copy(update=ids)
    return Start(input=given, workflow_name="Intake")


async def begun(stage: Stage) -> Begun:
    given = BeginInput.model_validate(ordered(stage).input.model_dump())
    return await ActivityEnvironment().run(Begin(stage.world).begin, given)


async def changed(stage: Stage, statement: str) -> None:
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(text(statement))


async def opened(stage: Stage) -> None:
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await quotas.consume(session, stage.place.workspace_id, "executions", 0)


async def withdrawn(stage: Stage) -> None:
    # The mirror has read the run's start, and so written over what the cancel said.
    await changed(stage, "UPDATE workflow_executions SET status = 'running', cancel_requested_at = now()")


async def used_up(stage: Stage) -> None:
    await changed(stage, "UPDATE usage_quotas SET quota_limit = 0")


async def not_opened(stage: Stage) -> None:
    await changed(stage, "DELETE FROM usage_quotas")


async def test_what_was_withdrawn_while_its_start_was_under_way_never_begins(stage: Stage):
    await withdrawn(stage)
    with pytest.raises(ApplicationError) as refusal:
        await begun(stage)
    assert refusal.value.type == "withdrawn"
    assert await stage.uses() == []


async def test_a_run_is_admitted_where_it_is_started_and_counted_once_whoever_asks_again(stage: Stage):
    await opened(stage)
    start = await starts.admitted(stage.database, ordered(stage))
    assert start.input.begun is not None
    assert start.input.begun.lead is not None
    assert len(await stage.uses()) == 1

    # Its starter was killed before Temporal had it: whoever starts it then leaves it to `begin`.
    again = await starts.admitted(stage.database, ordered(stage))
    assert again == ordered(stage)
    assert await begun(stage) == start.input.begun
    assert len(await stage.uses()) == 1


@pytest.mark.parametrize("meddle", [withdrawn, used_up, not_opened])
async def test_whatever_does_not_go_at_once_is_left_to_begin_and_counts_nothing(stage: Stage, meddle: Meddle):
    await opened(stage)
    await meddle(stage)
    assert await starts.admitted(stage.database, ordered(stage)) == ordered(stage)
    assert await stage.uses() == []


async def test_a_run_that_waits_behind_others_is_left_to_begin(stage: Stage):
    await opened(stage)
    start = replace(ordered(stage), waits_behind=True)
    assert await starts.admitted(stage.database, start) is start
    assert await stage.uses() == []


async def test_a_database_that_does_not_answer_is_no_reason_not_to_start(stage: Stage):
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    assert await starts.admitted(away, ordered(stage)) == ordered(stage)
    await away.close()
