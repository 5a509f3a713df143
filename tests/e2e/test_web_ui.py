"""What operators see of a run in the Temporal Web UI, and what they send from its dialog: plain JSON."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import UpdateWorkflowExecutionLifecycleStage as Stage
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.api.update.v1 import Input, Meta, Request, WaitPolicy
from temporalio.api.workflowservice.v1 import UpdateWorkflowExecutionRequest
from temporalio.exceptions import ApplicationError

from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import EMAIL, House, ok
from workflows.control import METADATA

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")
PHONE = {"field_key": "phone", "label": "Phone", "field_type": "TEXT"}
ADA = {"email": "ada@example.com"}
DONE = None
"""How an update that was carried out answers."""


async def typed(house: House, execution_id: UUID, name: str, argument: str) -> BaseException | None:
    """Send an update as the Web UI does, in the clear and without types; return its refusal, decoded."""
    payload = Payload(metadata={"encoding": b"json/plain"}, data=argument.encode())
    given = Input(name=name, args=Payloads(payloads=[payload] if argument else []))
    answer = await house.temporal.workflow_service.update_workflow_execution(
        UpdateWorkflowExecutionRequest(
            namespace=house.temporal.namespace,
            workflow_execution=WorkflowExecution(workflow_id=f"execution-{execution_id}"),
            wait_policy=WaitPolicy(lifecycle_stage=Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED),
            request=Request(meta=Meta(update_id=str(uuid4())), input=given),
        )
    )
    house.mirror.hint(execution_id)
    if not answer.outcome.HasField("failure"):
        return None
    return await house.temporal.data_converter.decode_failure(answer.outcome.failure)


def reason(refusal: BaseException | None) -> tuple[str | None, str]:
    assert isinstance(refusal, ApplicationError)
    return refusal.type, refusal.message


async def looked_at(house: House, execution_id: UUID) -> tuple[str, str, str, dict[str, str]]:
    """Return summary, details and current details of a run, and what can be sent to it."""
    handle = house.temporal.get_workflow_handle(f"execution-{execution_id}")
    described = await handle.describe()
    summary, details = await described.static_summary(), await described.static_details()
    metadata = await handle.query(METADATA, result_type=WorkflowMetadata)
    sendable = {each.name: each.description for each in metadata.definition.update_definitions}
    return summary or "", details or "", metadata.current_details, sendable


async def held(house: House) -> UUID:
    """Have a run hold a step that fails while the lead has no phone."""
    workflow = await house.workflow(
        chain(
            FORM,
            node("change", "ACTION_UPDATE_LEAD", "Change", set={"company": "{{ lead.phone }}"}),
            node("log", "UTILITY_LOG", "After", message="after"),
        ),
        fields=(EMAIL, PHONE),
    )
    await ok(house.api.patch(f"/v1/workflows/{workflow['id']}", json={"settings": {"hold_failures": True}}))
    execution_id = await house.submit(workflow, ADA)
    await house.until(execution_id, lambda run: run["status_reason"] == "step_held")
    return execution_id


async def asking(house: House) -> UUID:
    """Have a run wait for a decision."""
    ask = node("ask", "LOGIC_APPROVAL", "Ask", message="{{ lead.email }}?", timeout="P1D")
    yes, no = (node(each, "UTILITY_LOG", message=each) for each in ("yes", "no"))
    ways = edge("ask", "yes", "approved"), edge("ask", "no", "rejected")
    execution_id = await house.submit(
        await house.workflow(graph(FORM, ask, yes, no, edge("form", "ask"), *ways)), ADA
    )
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    return execution_id


async def test_a_run_reads_like_its_graph_and_tells_nothing_of_people(house: House):
    execution_id = await asking(house)
    run = (await ok(house.api.get(f"/v1/executions/{execution_id}"))).json()
    before = len(await house.history(execution_id))
    summary, details, current, sendable = await looked_at(house, execution_id)
    assert summary == "Test"
    for told in ("Test, version 1", "FORM", str(execution_id), run["lead_id"], "http://test/v1/executions/"):
        assert told in details
    assert "| `ask:1` | Ask | waiting until " in current
    assert '`{"step": "ask:1", "by": "your name"}`' in current
    assert set(sendable) == {"pause", "resume", "retry_step", "skip_step", "approve", "reject"}
    assert all("Argument: " in description for description in sendable.values())
    assert '{"step": "<node id>:<visit>"}' in sendable["retry_step"]
    assert "ada@" not in f"{summary} {details} {current}"
    # To look leaves no trace.
    assert len(await house.history(execution_id)) == before

    assert await typed(house, execution_id, "approve", '{"step": "ask:1", "by": "ann"}') is DONE
    await house.ended(execution_id)
    _, _, current, _ = await looked_at(house, execution_id)
    assert current.startswith("**Over** · 4 of 4")
    assert "| `ask:1` | Ask | completed → approved |" in current
    assert "| `no:1` | UTILITY\\_LOG | skipped |" in current


@pytest.mark.parametrize(("name", "handle"), [("approve", "approved"), ("reject", "rejected")])
async def test_a_decision_typed_by_nobody_in_particular_counts_once(house: House, name: str, handle: str):
    execution_id = await asking(house)
    assert await typed(house, execution_id, name, '"ask:1"') is DONE
    await house.ended(execution_id)
    step = (await house.steps(execution_id))["ask"]
    assert step["handle"] == handle
    assert [decision["by"] for decision in step["output_data"]["decisions"]] == ["Temporal Web UI"]


@pytest.mark.parametrize("argument", ["", "null", "{}", '{"comment": "wait"}'])
async def test_a_run_is_paused_and_resumed_with_or_without_an_argument(house: House, argument: str):
    execution_id = await asking(house)
    assert await typed(house, execution_id, "pause", argument) is DONE
    await house.until(execution_id, lambda run: run["status_reason"] == "paused")
    assert (await looked_at(house, execution_id))[2].startswith("**Paused**")
    type_, message = reason(await typed(house, execution_id, "pause", argument))
    assert (type_, message) == ("already_paused", "The execution is paused already.")
    assert await typed(house, execution_id, "resume", argument) is DONE
    await house.until(execution_id, lambda run: run["status_reason"] != "paused")
    assert reason(await typed(house, execution_id, "resume", argument))[0] == "not_paused"
    assert await typed(house, execution_id, "reject", '{"step": "ask:1"}') is DONE
    assert (await house.ended(execution_id))["status"] == "completed"


async def test_a_held_step_is_tried_again_and_skipped_by_its_key(house: House):
    execution_id = await held(house)
    current = (await looked_at(house, execution_id))[2]
    assert current.startswith("**Held by a failure**")
    assert "| `change:1` | Change | held: " in current
    assert await typed(house, execution_id, "retry_step", '{"step": "change:1"}') is DONE
    await house.until(execution_id, lambda run: run["status_reason"] == "step_held")
    assert await typed(house, execution_id, "skip_step", '{"step": "change:1"}') is DONE
    assert (await house.ended(execution_id))["status"] == "completed"


@pytest.mark.parametrize(
    ("name", "argument", "type_", "says"),
    [
        ("retry_step", "", "step_not_held", "No step is named. It can be sent for: change:1."),
        (
            "skip_step",
            '{"step": "change"}',
            "step_not_held",
            "The step change is not held by a failure. It can be sent for: change:1.",
        ),
        (
            "approve",
            '{"step": "change:1"}',
            "step_not_asking",
            "The step change:1 does not wait for a decision. There is no step that it fits.",
        ),
        ("retry_step", '{"stpe": "change:1"}', "bad_command", "Unknown: stpe. Send "),
        ("retry_step", '{"step": 1}', "bad_command", "step: Input should be a valid string. Send "),
        ("retry_step", '["change:1"]', "bad_command", "The argument: Input should be "),
    ],
)
async def test_what_cannot_be_meant_is_refused_in_words_and_leaves_no_event(
    house: House, name: str, argument: str, type_: str, says: str
):
    execution_id = await held(house)
    before = len(await house.history(execution_id))
    told, message = reason(await typed(house, execution_id, name, argument))
    assert told == type_
    assert message.startswith(says)
    assert len(await house.history(execution_id)) == before


async def test_a_run_that_starts_another_one_leads_to_it_and_back(house: House):
    child = await house.workflow(
        chain(node("form", "TRIGGER_MANUAL"), node("nap", "LOGIC_DELAY", duration="P1D"))
    )
    starts = node("start", "ACTION_START_WORKFLOW", "Start it", workflowId=child["id"], wait=True)
    execution_id = await house.submit(await house.workflow(chain(FORM, starts), name="Parent"), ADA)
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    current: Any = (await looked_at(house, execution_id))[2]
    (begun,) = await house.rows("SELECT id FROM workflow_executions WHERE awaited_step IS NOT NULL")
    name = f"execution-{begun['id']}"
    assert f"waiting for [{name}](./namespaces/{{namespace}}/workflows/{name})" in current
    house.seen.append(begun["id"])
    await house.until(begun["id"], lambda run: run["status"] == "waiting")
    details = (await looked_at(house, begun["id"]))[1]
    assert f"- **Waited for by** [execution-{execution_id}](" in details
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    await house.ended(execution_id)
    await house.ended(begun["id"])
    assert (await looked_at(house, execution_id))[2].startswith("**Cancelled**")


async def test_a_delivery_says_whose_step_it_is_and_which_run_sent_it(house: House):
    house.target.answers.extend([503])
    made = (await ok(house.api.post("/v1/webhook-endpoints", json={"url": house.target.url}))).json()
    crm = node("crm", "ACTION_DELIVER_WEBHOOK", "Tell the CRM", eventType="lead.qualified")
    execution_id = await house.submit(await house.workflow(chain(FORM, crm)), ADA)
    await house.ended(execution_id)
    message_id = (await house.steps(execution_id))["crm"]["output_data"]["message_id"]
    handle = house.temporal.get_workflow_handle(f"delivery-{message_id}-{made['id']}")
    described = await handle.describe()
    assert await described.static_summary() == "crm:1 | Tell the CRM"
    sender = f"execution-{execution_id}"
    assert (await described.static_details() or "").splitlines() == [
        f"- **Message** `{message_id}`",
        f"- **Endpoint** `{made['id']}`",
        f"- **Sent by** [{sender}](./namespaces/{{namespace}}/workflows/{sender})",
    ]
    await handle.terminate()
