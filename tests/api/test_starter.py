"""Starting runs: what could not be started is left to the dispatchers at once."""

from uuid import UUID

import pytest
from sqlalchemy import text

from activities.clients import temporal
from api.starter import Starter
from db import starts
from db.session import Database
from tests.api.conftest import Publish, Tenant

pytestmark = pytest.mark.anyio


async def test_a_run_that_cannot_be_started_is_released_and_no_more_are_tried(
    publish: Publish, anonymous, acme: Tenant, database: Database
):
    form = await publish()
    ids = []
    for number in range(3):
        answer = await anonymous.post(form.path, json={"email": f"a{number}@example.com"})
        ids.append(UUID(answer.json()["execution_id"]))
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(
            text("UPDATE workflow_executions SET locked_by = 'api-1', lock_acquired_at = now()")
        )
        found = [await starts.load(session, acme.workspace_id, one) for one in ids]
    # Nobody listens there: a lazy client fails when it is first needed.
    client = await temporal.connect("127.0.0.1:1", "default", lazy=True)
    starter = Starter(database, client, task_queue="none")
    for start in found:
        assert start is not None
        assert not await starter.launch(start)
    assert starter.is_away
    async with database.workspace(acme.workspace_id) as session:
        held = await session.scalar(
            text("SELECT count(*) FROM workflow_executions WHERE locked_by IS NOT NULL")
        )
    assert held == 0
