"""Limits of a vendor's queue on a real server: kept there, the same for every worker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID, uuid4

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.common import Priority
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.clients import limits
from activities.clients.limits import Change, Throttle, Watch
from activities.sandbox import sandbox
from workflows.delivery import DeliveryWorkflow
from workflows.messages import DeliveryInput

pytestmark = pytest.mark.anyio

QUEUE = "webhooks"
NOBODY = UUID(int=0)


@dataclass
class Vendor:
    """What is called by the steps of a queue; it notes when."""

    calls: list[tuple[UUID, float]] = field(default_factory=list)

    def of(self, workspace_id: UUID) -> list[float]:
        return [at for owner, at in self.calls if owner == workspace_id]

    def span(self) -> float:
        return self.calls[-1][1] - self.calls[0][1]


@asynccontextmanager
async def working(client: Client, task_queue: str, vendor: Vendor) -> AsyncIterator[None]:
    @activity.defn(name="deliver_webhook")
    async def deliver(given: DeliveryInput) -> str:
        vendor.calls.append((given.workspace_id, monotonic()))
        return "delivered"

    runs = Worker(client, task_queue=task_queue, workflows=[DeliveryWorkflow], workflow_runner=sandbox())
    async with runs, Worker(client, task_queue=f"{task_queue}-{QUEUE}", activities=[deliver]):
        yield


async def deliveries(
    client: Client, task_queue: str, count: int, workspace_id: UUID = NOBODY
) -> list[WorkflowHandle[DeliveryWorkflow, str]]:
    """Have so many calls made to the vendor."""
    return [
        await client.start_workflow(
            DeliveryWorkflow.run,
            DeliveryInput(workspace_id=workspace_id, endpoint_id=NOBODY, message_id=f"msg_{number}"),
            id=f"delivery-{uuid4()}",
            task_queue=task_queue,
            priority=Priority(fairness_key=str(workspace_id)),
        )
        for number in range(count)
    ]


async def limit(
    client: Client, task_queue: str, per_second: float | None, per_workspace: float | None
) -> None:
    """Set the queue's limits and wait until the server reads them itself."""
    wanted = Change(per_second, per_workspace, reason="the provider throttles", by="ann")
    await limits.change(client, QUEUE, wanted, task_queue=task_queue)
    named = [rate is not None for rate in (per_second, per_workspace)]
    await until(
        client, task_queue, lambda found: [found.whole is not None, found.each_workspace is not None] == named
    )


async def until(client: Client, task_queue: str, holds: Callable[[limits.Standing], bool]) -> limits.Standing:
    deadline = monotonic() + 20
    while True:
        found = await limits.standing(client, QUEUE, task_queue=task_queue)
        if holds(found):
            return found
        assert monotonic() < deadline, found
        await asyncio.sleep(0.1)


async def test_a_limit_is_read_back_with_who_set_it_and_why_and_is_taken_away(
    temporal_client: Client, task_queue: str
):
    before = await limits.standing(temporal_client, QUEUE, task_queue=task_queue)
    assert (before.whole, before.each_workspace, before.is_limited) == (None, None, False)
    await limit(temporal_client, task_queue, 5, 0.5)
    found = await limits.standing(temporal_client, QUEUE, task_queue=task_queue)
    assert found.whole is not None
    assert found.each_workspace is not None
    assert (found.whole.per_second, found.each_workspace.per_second) == (5, 0.5)
    assert (found.whole.reason, found.whole.by) == ("the provider throttles", "ann")
    assert found.whole.at is not None
    await limit(temporal_client, task_queue, None, 2)
    assert (await limits.standing(temporal_client, QUEUE, task_queue=task_queue)).is_limited
    await limit(temporal_client, task_queue, None, None)
    assert not (await limits.standing(temporal_client, QUEUE, task_queue=task_queue)).is_limited


async def test_what_was_set_is_told_though_it_cannot_be_read_yet(temporal_client: Client, task_queue: str):
    throttle = Throttle(temporal_client, task_queue=task_queue)
    for rate in (1.0, 2.0, None, 0.0, None):
        told = await throttle.change(QUEUE, Change(rate, reason="x", by="ann"))
        assert (told.whole.per_second if told.whole else None) == rate


async def test_a_limit_stretches_what_waits_in_the_queue(temporal_client: Client, task_queue: str):
    vendor = Vendor()
    await limit(temporal_client, task_queue, 5, None)
    async with working(temporal_client, task_queue, vendor):
        for handle in await deliveries(temporal_client, task_queue, 20):
            await handle.result()
    # Five at once, then five a second; without a limit all twenty take a fifth of one.
    assert vendor.span() >= 2


async def test_a_limit_for_each_workspace_leaves_the_others_alone(temporal_client: Client, task_queue: str):
    ada, bob, vendor = uuid4(), uuid4(), Vendor()
    # Held until all are there: whose come late would come last.
    await limit(temporal_client, task_queue, 0, 2)
    async with working(temporal_client, task_queue, vendor):
        many = await deliveries(temporal_client, task_queue, 10, ada)
        few = await deliveries(temporal_client, task_queue, 2, bob)
        await until(temporal_client, task_queue, lambda found: found.backlog == 12)
        await limit(temporal_client, task_queue, None, 2)
        for handle in [*few, *many]:
            await handle.result()
    assert vendor.of(ada)[-1] - vendor.of(ada)[0] >= 3
    assert vendor.of(bob)[-1] < vendor.of(ada)[-3]


async def test_a_rate_of_zero_holds_everything_until_it_is_taken_away(
    temporal_client: Client, task_queue: str
):
    vendor = Vendor()
    await limit(temporal_client, task_queue, 0, None)
    async with working(temporal_client, task_queue, vendor):
        handles = await deliveries(temporal_client, task_queue, 4)
        held = await until(temporal_client, task_queue, lambda found: found.backlog == 4)
        assert held.whole is not None
        assert held.whole.per_second == 0
        await until(temporal_client, task_queue, lambda found: found.oldest.total_seconds() >= 1.5)
        assert vendor.calls == []
        await limit(temporal_client, task_queue, None, None)
        for handle in handles:
            await asyncio.wait_for(handle.result(), 20)
    assert len(vendor.calls) == 4


async def test_a_worker_knows_which_queues_are_limited(temporal_client: Client, task_queue: str):
    watch = Watch()
    await watch.look(temporal_client, task_queue=task_queue)
    assert not any(watch.is_limited(queue) for queue in (*limits.QUEUES, None))
    await limit(temporal_client, task_queue, None, 1)
    await watch.look(temporal_client, task_queue=task_queue)
    assert [queue for queue in limits.QUEUES if watch.is_limited(queue)] == [QUEUE]


async def test_a_server_that_keeps_no_limits_says_so_in_a_sentence(
    temporal_client: Client, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(request: object, **_: object) -> None:
        raise RPCError("unknown method UpdateTaskQueueConfig", RPCStatusCode.UNIMPLEMENTED, b"")

    monkeypatch.setattr(temporal_client.workflow_service, "update_task_queue_config", refuse)
    with pytest.raises(limits.Unsupported, match="a newer version does"):
        await limits.change(temporal_client, QUEUE, Change(1), task_queue="any")
