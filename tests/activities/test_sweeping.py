"""ADR 0023: what a history could still name stays, however old it is; what none names goes."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError
from uuid_utils.compat import uuid7

from activities import sweeping
from activities.clients import runs
from activities.clients.blobs import Blobs
from activities.sweeping import sweep
from db import blobs
from db.session import Database
from tests.db.conftest import Place, Superuser, here, queued, superuser, there

__all__ = ["here", "superuser", "there"]
pytestmark = pytest.mark.anyio

LONG_AGO = timedelta(days=400)
Make = Callable[..., Awaitable[UUID]]


@pytest.fixture
def make(database: Database, here: Place, superuser: Superuser) -> Make:
    """Make an execution with a large payload, as its row tells of it."""

    async def made(status: str, *, ago: timedelta = LONG_AGO, place: Place = here) -> UUID:
        execution_id = UUID(bytes=uuid7().bytes)
        async with database.workspace(place.workspace_id) as session:
            session.add(queued(place, id=execution_id, status=status))
        assert await Blobs(database).keep(place.workspace_id, execution_id, {bytes(32): b"content"})
        with superuser() as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(
                "UPDATE workflow_executions SET finished_at = CASE WHEN status = ANY(%s) THEN now() - %s END,"
                " updated_at = now() - %s, queued_at = now() - %s WHERE id = %s",
                [["completed", "failed", "cancelled"], ago, ago, LONG_AGO, execution_id],
            )
        return execution_id

    return made


@pytest.fixture
def kept(superuser: Superuser) -> Callable[[], set[UUID]]:
    """Tell which executions still have theirs."""

    def look() -> set[UUID]:
        with superuser() as connection:
            return {row[0] for row in connection.execute("SELECT execution_id FROM payload_blobs")}

    return look


async def begin(client: Client, execution_id: UUID, task_queue: str) -> Any:
    """Have Temporal know a run, which nobody takes up."""
    return await client.start_workflow("Nobody", id=runs.workflow_id_of(execution_id), task_queue=task_queue)


async def delete(client: Client, execution_id: UUID) -> None:
    """Have Temporal forget a run, as it does when the retention is over."""
    execution = WorkflowExecution(workflow_id=runs.workflow_id_of(execution_id))
    request = DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=execution)
    await client.workflow_service.delete_workflow_execution(request)
    while await runs.is_known(client, execution_id):
        pass


async def test_an_open_run_keeps_its_own_however_old_it_is(make, kept, database, temporal_client, task_queue):
    states = [await make(status) for status in ("queued", "running", "waiting")]
    await begin(temporal_client, states[1], task_queue)
    assert await sweep(database, temporal_client, margin=timedelta(0)) == 0
    assert kept() == set(states)


async def test_a_run_that_temporal_still_knows_keeps_its_own_whatever_its_row_says(
    make, kept, database, temporal_client, task_queue
):
    # Its row may be wrong, or it was reset since and the mirror has not seen that yet.
    still_open, closed = await make("completed"), await make("failed")
    await begin(temporal_client, still_open, task_queue)
    await (await begin(temporal_client, closed, task_queue)).terminate()
    assert await sweep(database, temporal_client, margin=timedelta(0)) == 0
    assert kept() == {still_open, closed}
    await delete(temporal_client, closed)
    assert await sweep(database, temporal_client, margin=timedelta(0)) == 1
    assert kept() == {still_open}


async def test_a_run_that_ended_within_the_retention_and_a_day_keeps_its_own(
    make, kept, database, temporal_client
):
    # Somebody deleted it by hand: an older run of the same execution may still be there to be reset.
    day = timedelta(days=1)
    lately, before = (
        await make("completed", ago=2 * day - timedelta(minutes=5)),
        await make("completed", ago=2 * day + timedelta(minutes=5)),
    )
    assert await sweep(database, temporal_client) == 1
    assert kept() == {lately}
    assert before not in kept()


async def test_every_workspaces_are_swept_a_batch_at_a_time(make, kept, database, temporal_client, there):
    for _ in range(3):
        await make("cancelled")
        await make("completed", place=there)
    stays = await make("running", place=there)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeping, "BATCH", 2)
        assert await sweep(database, temporal_client) == 6
    assert kept() == {stays}
    assert await sweep(database, temporal_client) == 0


async def test_without_its_namespace_or_its_server_nothing_is_swept(
    make, kept, database, temporal_client, temporal_address
):
    gone = await make("completed")
    nowhere = await Client.connect(temporal_address, namespace="nowhere")
    assert await sweep(database, nowhere) == 0
    dead = await Client.connect("127.0.0.1:1", lazy=True)
    with pytest.raises((RPCError, RuntimeError)):
        await sweep(database, dead)
    assert kept() == {gone}


async def test_the_totals_count_every_workspaces(make, database, there):
    await make("running")
    await make("completed", place=there)
    async with database.door() as session:
        assert await blobs.totals(session) == blobs.Totals(2, 2 * len(b"content"))
