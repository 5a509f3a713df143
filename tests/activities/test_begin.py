"""A run is admitted, unless its cancel was asked for before it began."""

import pytest
from sqlalchemy import text
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.begin import Begin
from tests.activities.conftest import Stage
from workflows.messages import BeginInput

pytestmark = pytest.mark.anyio


async def test_what_was_withdrawn_while_its_start_was_under_way_never_begins(stage: Stage):
    async with stage.database.workspace(stage.place.workspace_id) as session:
        # The mirror has read the run's start, and so written over what the cancel said.
        await session.execute(
            text("UPDATE workflow_executions SET status = 'running', cancel_requested_at = now()")
        )
    given = BeginInput(
        workspace_id=stage.place.workspace_id,
        workflow_id=stage.place.workflow_id,
        execution_id=stage.execution_id,
    )
    with pytest.raises(ApplicationError) as refusal:
        await ActivityEnvironment().run(Begin(stage.world).begin, given)
    assert refusal.value.type == "withdrawn"
    assert await stage.uses() == []
