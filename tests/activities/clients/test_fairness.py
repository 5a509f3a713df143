"""Where workers are busy each workspace has its share: the order in which a real server gives runs out."""

from uuid import UUID, uuid4

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from activities.clients import runs
from activities.sandbox import sandbox
from db.starts import Start
from tests.workflows.drawn import execution, trigger
from workflows.execution import ExecutionWorkflow
from workflows.graph import Graph
from workflows.messages import BeginInput, Begun

pytestmark = pytest.mark.anyio

GRAPH = Graph(nodes=(trigger(),), edges=())


def order(workspace_id: UUID, *, weight: float = 1, waits_behind: bool = False) -> Start:
    given = execution(GRAPH).model_copy(update={"workspace_id": workspace_id, "execution_id": uuid4()})
    return Start(input=given, workflow_name="Test", weight=weight, waits_behind=waits_behind)


async def given_out(client: Client, task_queue: str, orders: list[Start]) -> list[UUID]:
    """Queue runs without a worker, then let one that takes them one by one name each as it begins."""
    began: list[UUID] = []

    @activity.defn(name="begin")
    async def begin(asked: BeginInput) -> Begun:
        began.append(asked.execution_id)
        return Begun(workspace={}, workflow={})

    for each in orders:
        await runs.begin(client, each, task_queue=task_queue)
    async with Worker(
        client,
        task_queue=task_queue,
        workflows=[ExecutionWorkflow],
        activities=[begin],
        workflow_runner=sandbox(),
        max_cached_workflows=0,
        max_concurrent_workflow_tasks=1,
        max_concurrent_workflow_task_polls=1,
    ):
        last = orders[-1].execution_id
        for each in orders:
            await client.get_workflow_handle(runs.workflow_id_of(each.execution_id)).result()
    assert last in began
    return began


def places(began: list[UUID], orders: list[Start]) -> list[int]:
    return sorted(began.index(each.execution_id) for each in orders)


async def test_a_workspace_with_forty_queued_runs_does_not_hold_up_another_one(
    temporal_client: Client, task_queue: str
):
    ada, bob = uuid4(), uuid4()
    many, few = [order(ada) for _ in range(40)], [order(bob) for _ in range(5)]
    began = await given_out(temporal_client, task_queue, [*many, *few])
    # By turns, one to one; in the order of their arrival the five would be the last.
    assert places(began, few)[-1] < 15


async def test_a_plan_with_more_weight_gets_more_turns(temporal_client: Client, task_queue: str):
    ada, bob = uuid4(), uuid4()
    many, few = [order(ada, weight=5) for _ in range(30)], [order(bob) for _ in range(5)]
    began = await given_out(temporal_client, task_queue, [*few, *many])
    assert places(began, few)[2] > 8
    assert places(began, few)[-1] < 34


async def test_what_waits_behind_leaves_most_turns_to_the_rest_and_still_gets_some(
    temporal_client: Client, task_queue: str
):
    ada = uuid4()
    reruns, forms = [order(ada, waits_behind=True) for _ in range(20)], [order(ada) for _ in range(20)]
    began = await given_out(temporal_client, task_queue, [*reruns, *forms])
    first = began[:20]
    assert sum(each.execution_id in first for each in forms) >= 13
    assert any(each.execution_id in first for each in reruns)
