"""Runs that start runs: left to themselves, waited for, failing, cancelled, terminated, reset, nested."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

from activities.clients import temporal
from api.mirror.mirror import Mirror
from api.mirror.pace import Pace
from db.reactions import MAX_HOPS
from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import House, ok

pytestmark = pytest.mark.anyio

HAND = node("hand", "TRIGGER_MANUAL", "By hand")
DONE = node("done", "UTILITY_LOG", message="done")


def call(workflow: dict[str, Any], **config: Any) -> dict[str, Any]:
    """Write a node that starts a workflow."""
    return node("call", "ACTION_START_WORKFLOW", "Call", workflowId=workflow["id"], **config)


async def greeter(house: House, *before: dict[str, Any]) -> dict[str, Any]:
    """Publish a workflow that gives back what it was given."""
    end = node("end", "UTILITY_END", outcome="greeted", output={"greeting": "Hello {{ trigger.name }}"})
    return await house.workflow(chain(HAND, *before, end), fields=(), name="Greeter")


async def children(house: House, execution_id: UUID) -> list[dict[str, Any]]:
    """List what an execution caused."""
    answer = await ok(house.api.get("/v1/executions", params={"cause": str(execution_id)}))
    found: list[dict[str, Any]] = answer.json()["data"]
    house.seen += [UUID(each["id"]) for each in found if UUID(each["id"]) not in house.seen]
    return found


async def only_child(house: House, execution_id: UUID) -> UUID:
    """Wait for a run's one child."""
    step = await house.until_step(execution_id, "call", "running")
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    (child,) = await children(house, execution_id)
    step = (await house.steps(execution_id))["call"]
    assert (step["status"], step["output_data"]["execution_id"]) == ("running", child["id"])
    return UUID(child["id"])


async def test_a_run_that_is_not_waited_for_goes_its_own_way(house: House):
    other = await greeter(house)
    workflow = await house.workflow(
        chain(HAND, call(other, input={"name": "{{ trigger.who }}"}), DONE), fields=()
    )
    execution_id = await house.start(workflow, who="Ada")
    assert (await house.ended(execution_id))["status"] == "completed"
    output = (await house.steps(execution_id))["call"]["output_data"]
    (child,) = await children(house, execution_id)
    assert output == {"execution_id": child["id"], "workflow_id": other["id"], "status": "queued"}
    ended = await house.ended(UUID(child["id"]))
    assert (ended["status"], ended["output_data"]) == ("completed", {"greeting": "Hello Ada"})
    assert (ended["trigger_type"], ended["cause_execution_id"]) == ("WORKFLOW", str(execution_id))


async def test_a_step_ends_with_the_run_it_waits_for_and_gives_its_output(house: House):
    other = await greeter(house, node("nap", "LOGIC_DELAY", duration="PT1S"))
    workflow = await house.workflow(
        chain(
            HAND,
            call(other, input={"name": "Ada"}, wait=True),
            node("log", "UTILITY_LOG", message="{{ steps.call.output.greeting }}"),
        ),
        fields=(),
    )
    execution_id = await house.start(workflow)
    child_id = await only_child(house, execution_id)
    assert (await house.ended(execution_id))["status"] == "completed"
    steps = await house.steps(execution_id)
    assert steps["call"]["output_data"] == {
        "execution_id": str(child_id),
        "workflow_id": other["id"],
        "status": "completed",
        "outcome": "greeted",
        "output": {"greeting": "Hello Ada"},
    }
    assert [line["message"] for line in await house.logs(execution_id)][1] == "Hello Ada"
    (row,) = await house.rows("SELECT collected_at FROM workflow_executions WHERE id = :id", id=child_id)
    assert row["collected_at"] is not None


async def test_a_failed_child_fails_the_step_unless_it_goes_on(house: House):
    other = await house.workflow(chain(HAND, node("no", "UTILITY_FAIL", "No", message="no luck")), fields=())
    strict, lenient = call(other, wait=True, onError="branch"), call(other, wait=True)
    lenient = node("lenient", lenient["type"], **lenient["data"]["config"], onChildFailure="continue")
    ways = (edge("hand", "call"), edge("hand", "lenient"), edge("call", "done", "error"))
    workflow = await house.workflow(graph(HAND, strict, lenient, DONE, *ways), fields=())
    execution_id = await house.start(workflow)
    assert (await house.ended(execution_id))["status"] == "completed"
    for child in await children(house, execution_id):
        assert (await house.ended(UUID(child["id"])))["status_reason"] == "node_failed"
    steps = await house.steps(execution_id)
    assert (steps["call"]["status"], steps["call"]["handle"]) == ("failed", "error")
    assert steps["call"]["error"]["type"] == "child_failed"
    assert steps["call"]["error"]["message"].endswith(" failed (node_failed): No: no luck")
    output = steps["lenient"]["output_data"]
    assert (output["status"], output["outcome"], output["output"]) == ("failed", "node_failed", None)
    assert output["error"] == {"type": "node_failed", "message": "No: no luck"}


async def sleeper(house: House, **config: Any) -> dict[str, Any]:
    """Publish a workflow that waits for another one, which sleeps for long."""
    other = await greeter(house, node("nap", "LOGIC_DELAY", duration="PT1H"))
    return await house.workflow(chain(HAND, call(other, wait=True, **config), DONE), fields=())


async def test_cancelling_a_run_cancels_the_run_it_waits_for(house: House):
    execution_id = await house.start(await sleeper(house))
    child_id = await only_child(house, execution_id)
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    assert (await house.ended(execution_id))["status"] == "cancelled"
    child = await house.ended(child_id)
    assert (child["status"], child["status_reason"]) == ("cancelled", "parent_ended")
    assert (await house.steps(execution_id))["call"]["status"] == "cancelled"


async def test_a_run_whose_step_is_given_up_with_its_item_ends_while_its_parent_goes_on(house: House):
    other = await greeter(house, node("nap", "LOGIC_DELAY", duration="PT1H"))
    loop = node("loop", "LOGIC_FOR_EACH", items=[1], onItemError="continue")
    mail = node("mail", "ACTION_SEND_EMAIL", to="nobody at all", emailSubject="x", emailText="x")
    fails = chain(node("short", "LOGIC_DELAY", duration="PT2S"), mail)
    drawn = graph(
        HAND,
        loop,
        call(other, wait=True),
        *fails["nodes"],
        node("long", "LOGIC_DELAY", duration="PT1H"),
        edge("hand", "loop"),
        edge("loop", "call", "each"),
        edge("loop", "short", "each"),
        *fails["edges"],
        edge("loop", "long", "done"),
    )
    execution_id = await house.start(await house.workflow(drawn, fields=()))
    child_id = await only_child(house, execution_id)
    child = await house.ended(child_id)
    assert (child["status"], child["status_reason"]) == ("cancelled", "parent_ended")
    parent = await house.until_step(execution_id, "call", "cancelled")
    assert (await house.steps(execution_id))["long"]["status"] == "running", parent
    collected = "SELECT collected_at FROM workflow_executions WHERE id = :id"
    assert (await house.rows(collected, id=child_id))[0]["collected_at"] is not None
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    assert (await house.ended(execution_id))["status"] == "cancelled"


async def test_a_terminated_run_takes_the_run_it_waits_for_along(house: House):
    execution_id = await house.start(await sleeper(house))
    child_id = await only_child(house, execution_id)
    await house.temporal.get_workflow_handle(f"execution-{execution_id}").terminate(reason="enough")
    house.mirror.hint(execution_id)
    assert (await house.ended(execution_id))["status_reason"] == "terminated"
    child = await house.ended(child_id)
    assert (child["status"], child["status_reason"]) == ("cancelled", "parent_ended")


async def test_a_terminated_child_fails_the_step_that_waits_for_it(house: House):
    execution_id = await house.start(await sleeper(house))
    child_id = await only_child(house, execution_id)
    await house.temporal.get_workflow_handle(f"execution-{child_id}").terminate(reason="had enough")
    house.mirror.hint(child_id)
    assert (await house.ended(execution_id))["status"] == "failed"
    error = (await house.steps(execution_id))["call"]["error"]
    assert error["type"] == "child_failed"
    assert error["message"] == f"The execution {child_id} failed (terminated): had enough"


async def test_a_reset_of_the_parent_starts_nothing_twice(house: House):
    execution_id = await house.start(await sleeper(house))
    child_id = await only_child(house, execution_id)
    request = ResetWorkflowExecutionRequest(
        namespace=house.temporal.namespace,
        workflow_execution=WorkflowExecution(workflow_id=f"execution-{execution_id}"),
        reason="once more",
        request_id="once-more",
        workflow_task_finish_event_id=4,
    )
    answer = await house.temporal.workflow_service.reset_workflow_execution(request)
    house.mirror.hint(execution_id)
    await house.until(execution_id, lambda run: run["temporal"]["run_id"] == answer.run_id)
    assert await only_child(house, execution_id) == child_id
    await ok(house.api.post(f"/v1/executions/{child_id}/cancel"))
    assert (await house.ended(execution_id))["status"] == "failed"
    assert (await house.steps(execution_id))["call"]["error"]["type"] == "child_cancelled"
    assert len(await children(house, execution_id)) == 1


async def test_runs_that_start_each_other_end_at_the_limit(house: House):
    nested = await greeter(house)
    for _ in range(MAX_HOPS + 1):
        nested = await house.workflow(
            chain(HAND, call(nested, input={"name": "Ada"}, wait=True)), fields=(), name="Nested"
        )
    execution_id = await house.start(nested)
    assert (await house.ended(execution_id))["status"] == "failed"
    depth, error = 0, ""
    while found := await children(house, execution_id):
        depth, execution_id = depth + 1, UUID(found[0]["id"])
        error = (await house.steps(execution_id))["call"]["error"]["message"]
    assert depth == MAX_HOPS
    assert error == f"{MAX_HOPS} runs in a row have started each other."


async def test_what_cannot_be_started_is_not_published(house: House):
    made = (await ok(house.api.post("/v1/workflows", json={"name": "Calls"}))).json()
    path = f"/v1/workflows/{made['id']}"
    for called, wait, code, field in (
        ({"id": str(UUID(int=7))}, False, "unknown_workflow", "workflowId"),
        (made, True, "waits_for_itself", "wait"),
    ):
        drawn = chain(HAND, call(called, wait=wait), DONE)
        etag = (await ok(house.api.get(f"{path}/graph"))).headers["ETag"]
        saved = await ok(house.api.put(f"{path}/graph", json=drawn, headers={"If-Match": etag}))
        assert [one["code"] for one in saved.json()["problems"]] == [code]
        checked = (await ok(house.api.post(f"{path}/graph/validate", json=drawn))).json()
        assert (checked["valid"], checked["problems"][0]["severity"]) == (False, "error")
        refused = await house.api.post(f"{path}/publish")
        (error,) = refused.json()["errors"]
        assert (refused.status_code, error["code"], error["node_id"]) == (422, code, "call")
        assert error["pointer"] == f"/nodes/1/data/config/{field}"
        assert error["remedy"]


async def test_a_child_takes_a_quota_of_its_own(house: House):
    workflow = await house.workflow(chain(HAND, call(await greeter(house), wait=True)), fields=())
    await house.rows("UPDATE usage_quotas SET quota_limit = 1 WHERE quota_key = 'executions' RETURNING id")
    execution_id = await house.start(workflow)
    assert (await house.ended(execution_id))["status"] == "failed"
    (child,) = await children(house, execution_id)
    assert (await house.ended(UUID(child["id"])))["status_reason"] == "quota_exceeded"
    assert "(quota_exceeded)" in (await house.steps(execution_id))["call"]["error"]["message"]


async def test_a_held_step_that_is_tried_again_starts_another_child(house: House):
    other = await house.workflow(chain(HAND, node("no", "UTILITY_FAIL", message="no luck")), fields=())
    workflow = await house.workflow(chain(HAND, call(other, wait=True), DONE), fields=())
    settings = {"settings": {"hold_failures": True}}
    await ok(house.api.patch(f"/v1/workflows/{workflow['id']}", json=settings))
    execution_id = await house.start(workflow)
    await house.until(execution_id, lambda run: run["status_reason"] == "step_held")
    await house.publish(other, chain(HAND, DONE))
    step = (await house.steps(execution_id))["call"]
    await ok(house.api.post(f"/v1/executions/{execution_id}/steps/{step['id']}/retry"))
    assert (await house.ended(execution_id))["status"] == "completed"
    second, first = await children(house, execution_id)
    assert (first["status"], (await house.ended(UUID(second["id"])))["status"]) == ("failed", "completed")
    assert (await house.steps(execution_id))["call"]["output_data"]["execution_id"] == second["id"]


async def test_the_sweep_alone_finds_the_end_of_a_child_that_told_nobody(
    house: House, temporal_address: str, database_url: str
):
    execution_id = await house.start(await sleeper(house))
    child_id = await only_child(house, execution_id)
    await house.temporal.get_workflow_handle(f"execution-{child_id}").terminate(reason="had enough")
    client = await temporal.connect(temporal_address, data_converter=house.temporal.data_converter)
    other = Mirror(client, house.database, database_url=database_url, pace=Pace(sweep=0.5))
    sweeping = asyncio.create_task(other.run())
    try:
        assert (await house.ended(execution_id))["status"] == "failed"
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
    assert (await house.steps(execution_id))["call"]["error"]["type"] == "child_failed"
