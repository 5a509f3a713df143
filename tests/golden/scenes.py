"""What the golden histories tell: one small run for each node type, and each way in which a run can turn."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import text
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowHandle

from db import leads
from local import demo
from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import EMAIL, House, ok
from tests.golden.corpus import executable
from workflows import nodes
from workflows.loops import JUMP
from workflows.messages import ScheduledInput
from workflows.upkeep import JOBS
from workflows.walk import BREATH

Handle = WorkflowHandle[Any, Any]
Graph = dict[str, Any]

KEYS = ("first_name", "budget", "company", "product")
FIELDS: list[dict[str, Any]] = [
    EMAIL,
    *({"field_key": key, "label": key.title(), "field_type": "TEXT"} for key in KEYS),
]
ANSWERS = {
    "email": "ada@example.com",
    "first_name": "Ada",
    "budget": "$10000+",
    "company": "Engines Ltd",
    "product": "the Engine",
}
FORM = node("form", "TRIGGER_FORM", "Form")
DONE = node("done", "UTILITY_LOG", "Done", message="Done with {{ lead.email }}")


@dataclass(frozen=True)
class Scene:
    """Plays on a house, and returns the runs to keep."""

    play: Callable[[House], Awaitable[list[Handle]]]
    refusals: int = 0
    """How many mails the mail server puts off first."""
    history_limit: int | None = None
    """After how many events the server asks for continue-as-new, if it shall soon."""


# ── one for each node type


def around(name: str) -> Graph:
    """Put a node with its type's own example where one would draw it, and a log after each way out."""
    node_type = nodes.types()[name]
    config = CONFIGS.get(name, node_type.example)
    subject = node("subject", name, node_type.title, **config)
    read = node_type.Config.model_validate(config)
    loop = node_type.loop(read)
    # The way back of a jump is no way on.
    ways = [way for way in node_type.ways_out(read) if not (loop and loop.target and way == JUMP)]
    after = [node(f"after_{way}", "UTILITY_LOG", message=f"left by {way}") for way in ways]
    onward = [edge("subject", f"after_{way}", way) for way in ways]
    if node_type.kind() == "trigger":
        return graph(subject, *after, *onward)
    before = [node(each, "UTILITY_LOG", message=f"from {each}") for each in BEFORE.get(name, ())]
    inward = [part for each in before for part in (edge("form", each["id"]), edge(each["id"], "subject"))]
    return graph(FORM, *before, subject, *after, *(inward or [edge("form", "subject")]), *onward)


CONFIGS: dict[str, dict[str, Any]] = {
    # No service has a name that can be told here, so it is one that nobody answers for.
    "ACTION_HTTP_REQUEST": {
        "url": "https://service.invalid/",
        "retry": {"maxAttempts": 2, "initialSeconds": 0.1},
        "onError": "branch",
    },
    "LOGIC_DELAY": {"mode": "duration", "duration": "PT1S"},
    "LOGIC_FOR_EACH": {"items": ["one", "two"], "mode": "parallel"},
    "LOGIC_GOTO": {"targetNodeId": "again", "maxVisits": 2},
    "LOGIC_APPROVAL": {"message": "Now?", "timeout": "PT1S"},
    "LOGIC_WAIT_FOR_EVENT": {"events": [{"id": "paid", "type": "PAID"}], "timeout": "PT1S"},
}
"""Where the example would take days, or need the outside."""
BEFORE = {"LOGIC_MERGE": ("left", "right"), "LOGIC_GOTO": ("again",)}
"""What a node is there to join, or to repeat."""
ENDS = {"UTILITY_FAIL": "failed"}


async def one_node(house: House, *, name: str) -> list[Handle]:
    """Run a graph around one node, with somebody listening to every event."""
    await subscribe(house)
    return [await ran(house, around(name), ends=ENDS.get(name, "completed"))]


# ── the turns of a run


async def intake(house: House) -> list[Handle]:
    """Branch, skip and merge: the demo's own graph."""
    await subscribe(house)
    workflow = await house.workflow(demo.GRAPH, fields=demo.FIELDS, name=demo.NAME)
    return [await ended(house, await house.submit(workflow, demo.ANSWERS))]


async def steps_together(house: House) -> list[Handle]:
    """Let steps share an activity: one run in one go, one whose webhook goes on in its queue meanwhile."""
    await subscribe(house)
    patient: dict[str, Any] = {"waitForDelivery": True, "retry": {"maxAttempts": 5, "initialSeconds": 1}}
    drawn = chain(
        FORM,
        node("vars", "UTILITY_SET_VARIABLES", assignments={"greeting": "Hello {{ lead.name }}"}),
        node("status", "ACTION_SET_LEAD_STATUS", status="CONTACTED"),
        node("tell", "ACTION_DELIVER_WEBHOOK", eventType="lead.told", **patient),
        node("log", "UTILITY_LOG", message="{{ vars.greeting }}"),
        DONE,
    )
    handles = [await ran(house, drawn)]
    house.target.answers.extend([503])
    return [*handles, await ran(house, drawn)]


async def concurrency(house: House) -> list[Handle]:
    """Run branches side by side, one of them asleep."""
    drawn = graph(
        FORM,
        node("nap", "LOGIC_DELAY", duration="PT1S"),
        node("vars", "UTILITY_SET_VARIABLES", assignments={"greeting": "Hello {{ lead.name }}"}),
        node("status", "ACTION_SET_LEAD_STATUS", status="CONTACTED"),
        node("meet", "LOGIC_MERGE", mode="all"),
        DONE,
        *(edge("form", each) for each in ("nap", "vars", "status")),
        *(edge(each, "meet") for each in ("nap", "vars", "status")),
        edge("meet", "done"),
    )
    return [await ran(house, drawn)]


async def edge_rules(house: House) -> list[Handle]:
    """Weigh rules on the edges of a trigger, which has no activity of its own; leave a disabled node out."""
    rich = {"field": "budget", "operator": ">=", "value": 5000}
    poor = {"none": [rich]}
    drawn = graph(
        FORM,
        node("rich", "UTILITY_LOG", message="rich"),
        node("poor", "UTILITY_LOG", message="poor"),
        node("off", "UTILITY_LOG", message="never", disabled=True),
        edge("form", "rich", condition=rich),
        edge("form", "poor", condition=poor),
        edge("form", "off"),
    )
    return [await ran(house, drawn)]


async def local_retry(house: House) -> list[Handle]:
    """Keep a lead locked until a local activity has failed once."""
    status = node("status", "ACTION_SET_LEAD_STATUS", status="QUALIFIED")
    workflow = await house.workflow(chain(FORM, node("nap", "LOGIC_DELAY", duration="PT1S"), status, DONE))
    execution_id = await house.submit(workflow, {"email": ANSWERS["email"]})
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    async with house.database.workspace(house.workspace_id) as session:
        await session.execute(text("SELECT id FROM leads FOR UPDATE"))
        while not await house.logs(execution_id):
            await asyncio.sleep(0.05)
    return [await ended(house, execution_id)]


async def mail_put_off(house: House) -> list[Handle]:
    """Send a mail that the server puts off: the fast path gives way to the queue."""
    mail = node("mail", "ACTION_SEND_EMAIL", emailSubject="Hello", emailText="Hello {{ lead.name }}")
    return [await ran(house, chain(FORM, mail, DONE))]


async def on_error(house: House, *, policy: str, ends: str = "completed") -> list[Handle]:
    """Fail at a node, and go on as its `onError` says."""
    mail = {"to": "nobody at all", "emailSubject": "x", "emailText": "x"}
    drawn = graph(
        FORM,
        node("mail", "ACTION_SEND_EMAIL", **mail, onError=policy),
        node("fine", "UTILITY_LOG", message="fine"),
        node("error", "UTILITY_LOG", message="failed"),
        edge("form", "mail"),
        edge("mail", "fine", "default"),
        edge("mail", "error", "error"),
    )
    return [await ran(house, drawn, ends=ends)]


async def asleep(house: House) -> UUID:
    """Start a run and let it fall asleep for a day, with a branch that is done."""
    drawn = graph(
        FORM, node("nap", "LOGIC_DELAY", duration="P1D"), DONE, edge("form", "nap"), edge("form", "done")
    )
    execution_id = await started(house, drawn)
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    return execution_id


async def cancelled(house: House) -> list[Handle]:
    """Cancel a run in its sleep."""
    execution_id = await asleep(house)
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel", json={"reason": "changed my mind"}))
    return [await ended(house, execution_id, ends="cancelled")]


async def terminated(house: House) -> list[Handle]:
    """Terminate a run in its sleep, as an operator would."""
    execution_id = await asleep(house)
    await handle_of(house, execution_id).terminate(reason="operator had enough")
    return [await ended(house, execution_id, ends="failed")]


async def quota_exceeded(house: House) -> list[Handle]:
    """Refuse a run at its door."""
    await house.rows("UPDATE usage_quotas SET quota_limit = 0 WHERE quota_key = 'executions' RETURNING id")
    return [await ran(house, chain(FORM, DONE), ends="failed")]


async def reset(house: House) -> list[Handle]:
    """Set a run back to its first workflow task, after its end."""
    execution_id = await started(house, chain(FORM, node("nap", "LOGIC_DELAY", duration="PT1S"), DONE))
    first = await ended(house, execution_id)
    request = ResetWorkflowExecutionRequest(
        namespace=house.temporal.namespace,
        workflow_execution=WorkflowExecution(workflow_id=first.id),
        reason="once more",
        request_id="once-more",
        workflow_task_finish_event_id=4,
    )
    answer = await house.temporal.workflow_service.reset_workflow_execution(request)
    again = house.temporal.get_workflow_handle(first.id, run_id=answer.run_id)
    await again.result()
    house.mirror.hint(execution_id)
    await house.until(execution_id, lambda run: run["temporal"]["run_id"] == answer.run_id)
    return [again]


async def continued_as_new(house: House) -> list[Handle]:
    """Go on in run after run, a sleeping branch carried along."""
    naps = [node(f"nap{number}", "LOGIC_DELAY", duration="PT1S") for number in (1, 2)]
    drawn = graph(
        FORM,
        *naps,
        node("log", "UTILITY_LOG", message="awake"),
        node("long", "LOGIC_DELAY", duration="PT4S"),
        node("meet", "LOGIC_MERGE"),
        DONE,
        edge("form", "nap1"),
        edge("nap1", "log"),
        edge("log", "nap2"),
        edge("nap2", "meet"),
        edge("form", "long"),
        edge("long", "meet"),
        edge("meet", "done"),
    )
    return await chained(house, await ran(house, drawn))


async def chained(house: House, last: Handle) -> list[Handle]:
    """List the runs that led to this one, the oldest first; there must be several."""
    found = [last]
    while earlier := await continued_from(found[0]):
        found.insert(0, house.temporal.get_workflow_handle(last.id, run_id=earlier))
    assert len(found) > 1
    return found


async def continued_from(handle: Handle) -> str:
    """Name the run that a run continues."""
    first = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
    return first.continued_execution_run_id


async def looped(house: House) -> list[Handle]:
    """Run items side by side, some of which fail or sleep, and jump back, from one run to the next."""
    loop = node("loop", "LOGIC_FOR_EACH", items=[0, 1, 2, 3, 4], mode="parallel", concurrency=2)
    loop["data"]["config"]["onItemError"] = "continue"
    odd = {"field": "loop.index", "operator": "in", "value": [1, 3]}
    drawn = graph(
        FORM,
        loop,
        node("odd", "LOGIC_CONDITION", condition=odd),
        node("nap", "LOGIC_DELAY", duration="PT1S"),
        node("mail", "ACTION_SEND_EMAIL", to="{{ loop.item }}", emailSubject="x", emailText="x"),
        node("log", "UTILITY_LOG", message="done with {{ loop.item }}"),
        node("again", "LOGIC_GOTO", targetNodeId="odd", maxVisits=2),
        DONE,
        edge("form", "loop"),
        edge("loop", "odd", "each"),
        edge("odd", "nap", "condition_true"),
        edge("odd", "log", "condition_false"),
        edge("nap", "mail"),
        edge("log", "again"),
        edge("loop", "done", "done"),
    )
    return await chained(house, await ran(house, drawn))


async def loop_out_of_breath(house: House) -> list[Handle]:
    """Go through so many items that need no activity that the loop has to pause between them."""
    loop = node("loop", "LOGIC_FOR_EACH", "Loop", items=[0] * (BREATH + 200), maxItems=2 * BREATH)
    drawn = graph(
        *(FORM, loop, node("pass", "LOGIC_MERGE"), DONE),
        *(edge("form", "loop"), edge("loop", "pass", "each"), edge("loop", "done", "done")),
    )
    return [await ran(house, drawn)]


async def delivery_retried(house: House) -> list[Handle]:
    """Hand a webhook over that its endpoint refused, and come once before it is due."""
    await subscribe(house)
    house.target.answers.append(500)
    execution_id = await started(house, around("ACTION_DELIVER_WEBHOOK"))
    await house.ended(execution_id)
    (row,) = await house.rows(
        "UPDATE webhook_deliveries SET scheduled_at = now() + interval '8 seconds'"
        " WHERE status = 'pending' RETURNING message_id, webhook_endpoint_id"
    )
    workflow_id = f"delivery-{row['message_id']}-{row['webhook_endpoint_id']}"
    delivery: Handle = house.temporal.get_workflow_handle(workflow_id)
    assert await delivery.result() == "delivered"
    return [delivery]


async def delivery_awaited(house: House) -> list[Handle]:
    """Wait for a delivery that succeeds at the second attempt, on the queue."""
    await subscribe(house)
    house.target.answers.append(500)
    hook = node("hook", "ACTION_DELIVER_WEBHOOK", eventType="lead.qualified", waitForDelivery=True)
    return [await ran(house, chain(FORM, hook, DONE))]


async def controlled(house: House) -> list[Handle]:
    """Pause and resume, retry what is held, then wait for a decision and for an event."""
    change = node("change", "ACTION_UPDATE_LEAD", set={"company": "{{ lead.phone }}"})
    ask = node("ask", "LOGIC_APPROVAL", message="Now?", timeout="P1D")
    wait = node("wait", "LOGIC_WAIT_FOR_EVENT", events=[{"id": "paid", "type": "PAID"}], timeout="P1D")
    drawn = chain(FORM, node("nap", "LOGIC_DELAY", duration="PT1S"), change, ask, wait, DONE)
    workflow = await house.workflow(drawn, fields=FIELDS)
    settings = {"settings": {"hold_failures": True}}
    await ok(house.api.patch(f"/v1/workflows/{workflow['id']}", json=settings))
    execution_id = await house.submit(workflow, ANSWERS)
    path = f"/v1/executions/{execution_id}"
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    await ok(house.api.post(f"{path}/pause"))
    await house.until_step(execution_id, "nap", "completed")
    await ok(house.api.post(f"{path}/resume"))
    held = await house.until(execution_id, lambda run: run["status_reason"] == "step_held")
    await ok(house.api.patch(f"/v1/leads/{held['lead_id']}", json={"phone": "+1 555 0100"}))
    step = (await house.steps(execution_id))["change"]
    await ok(house.api.post(f"{path}/steps/{step['id']}/retry"))
    await house.until(execution_id, lambda run: run["status"] == "waiting" and not run["status_reason"])
    decision = {"step": (await house.steps(execution_id))["ask"]["id"], "approved": True}
    await ok(house.api.post(f"{path}/approvals", json=decision))
    await house.until_step(execution_id, "wait", "running")
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    await ok(house.api.post(f"{path}/signals", json={"type": "PAID"}))
    return [await ended(house, execution_id)]


async def with_child(house: House, *before: Graph, naps: bool = False) -> tuple[UUID, UUID]:
    """Start a run that waits for another one; return both."""
    end = node("end", "UTILITY_END", output={"greeting": "Hello {{ trigger.name }}"})
    hand = node("hand", "TRIGGER_MANUAL", "By hand")
    other = await house.workflow(chain(hand, *before, end), fields=(), name="Other")
    config = {"workflowId": other["id"], "input": {"name": "{{ lead.first_name }}"}, "wait": True}
    call = node("subject", "ACTION_START_WORKFLOW", "Start a workflow", **config)
    beside = [node(f"nap{number}", "LOGIC_DELAY", duration="PT1S") for number in (1, 2)] if naps else []
    sides = chain(FORM, *beside)["edges"]
    drawn = graph(FORM, call, DONE, *beside, edge("form", "subject"), edge("subject", "done"), *sides)
    execution_id = await started(house, drawn)
    await house.until_step(execution_id, "subject", "running")
    while not (
        rows := await house.rows(
            "SELECT id FROM workflow_executions WHERE cause_execution_id = :id", id=execution_id
        )
    ):
        await asyncio.sleep(0.05)
    return execution_id, rows[0]["id"]


async def child_awaited(house: House) -> list[Handle]:
    """Wait for another run."""
    parent, _ = await with_child(house)
    return [await ended(house, parent)]


async def child_tells(house: House) -> list[Handle]:
    """End while another run waits for it."""
    parent, child = await with_child(house)
    await ended(house, parent)
    return [await ended(house, child)]


async def child_released(house: House) -> list[Handle]:
    """Be cancelled while waiting for another run."""
    parent, child = await with_child(house, node("nap", "LOGIC_DELAY", duration="P1D"))
    await house.until(parent, lambda run: run["status"] == "waiting")
    await ok(house.api.post(f"/v1/executions/{parent}/cancel"))
    await ended(house, child, ends="cancelled")
    return [await ended(house, parent, ends="cancelled")]


async def child_dropped(house: House) -> list[Handle]:
    """Give up an item of which one branch waits for another run, as its other branch fails."""
    hand, nap = node("hand", "TRIGGER_MANUAL", "By hand"), node("nap", "LOGIC_DELAY", duration="P1D")
    other = await house.workflow(chain(hand, nap), fields=(), name="Other")
    loop = node("loop", "LOGIC_FOR_EACH", items=["one"], onItemError="continue")
    call = node("call", "ACTION_START_WORKFLOW", workflowId=other["id"], wait=True)
    wait = node("wait", "LOGIC_WAIT_FOR_EVENT", events=[{"id": "paid", "type": "PAID"}], timeout="P1D")
    mail = node("mail", "ACTION_SEND_EMAIL", to="nobody at all", emailSubject="x", emailText="x")
    drawn = graph(
        *(FORM, loop, call, wait, mail, DONE),
        *(edge("form", "loop"), edge("loop", "call", "each"), edge("loop", "wait", "each")),
        *(edge("wait", "mail", "event_paid"), edge("loop", "done", "done")),
    )
    execution_id = await started(house, drawn)
    caused = "SELECT id FROM workflow_executions WHERE cause_execution_id = :id"
    while not (rows := await house.rows(caused, id=execution_id)):
        await asyncio.sleep(0.05)
    for waiting in (execution_id, rows[0]["id"]):
        await house.until(waiting, lambda run: run["status"] == "waiting")
    await ok(house.api.post(f"/v1/executions/{execution_id}/signals", json={"type": "PAID"}))
    await ended(house, rows[0]["id"], ends="cancelled")
    return [await ended(house, execution_id)]


async def child_outlasts(house: House) -> list[Handle]:
    """Go on in run after run while waiting for one other run."""
    parent, _ = await with_child(house, node("nap", "LOGIC_DELAY", duration="PT6S"), naps=True)
    return await chained(house, await ended(house, parent))


async def woken(house: House) -> list[Handle]:
    """Wait for an event of the lead that comes from elsewhere, after one of its type that does not match."""
    rule = {"field": "amount", "operator": ">=", "value": 10}
    paid = {"id": "paid", "type": "PAID", "match": rule}
    wait = node("wait", "LOGIC_WAIT_FOR_EVENT", events=[paid], timeout="P1D")
    execution_id = await started(house, chain(FORM, wait, DONE))
    run = await house.until(execution_id, lambda run: run["status"] == "waiting")
    await happens(house, run["lead_id"], amount=5)
    while await house.rows("SELECT 1 FROM event_wakes"):
        await asyncio.sleep(0.05)
    await happens(house, run["lead_id"], amount=15)
    return [await ended(house, execution_id)]


async def woken_later(house: House) -> list[Handle]:
    """Go on in run after run while a branch waits for an event, which then comes."""
    rule = {"field": "amount", "operator": ">=", "value": 10}
    paid = {"id": "paid", "type": "PAID", "match": rule}
    wait = node("wait", "LOGIC_WAIT_FOR_EVENT", events=[paid], timeout="P1D")
    naps = [node(f"nap{number}", "LOGIC_DELAY", duration="PT2S") for number in (1, 2)]
    drawn = graph(
        *(FORM, wait, *naps, node("log", "UTILITY_LOG", message="awake"), DONE),
        *(edge("form", "wait"), edge("wait", "done")),
        *(edge("form", "nap1"), edge("nap1", "log"), edge("log", "nap2")),
    )
    execution_id = await started(house, drawn)
    run = await house.until(execution_id, lambda run: run["status"] == "waiting")
    await happens(house, run["lead_id"], amount=5)
    await house.until_step(execution_id, "nap2", "completed")
    await happens(house, run["lead_id"], amount=15)
    return await chained(house, await ended(house, execution_id))


async def happens(house: House, lead_id: str, **metadata: Any) -> None:
    """Have the lead pay, as somebody else's doing."""
    async with house.database.workspace(house.workspace_id) as session:
        await leads.add_event(session, house.workspace_id, UUID(lead_id), "PAID", metadata=metadata)


async def approvers_asked(house: House) -> list[Handle]:
    """Ask two approvers by mail, of whom the first is put off; both decide by their links."""
    approvers = ["ann@example.com", "bob@example.com"]
    ask = node("ask", "LOGIC_APPROVAL", approvers=approvers, message="Now?", timeout="P1D", minApprovals=2)
    execution_id = await started(house, chain(FORM, ask, DONE))
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    for message in house.catcher.messages():
        await ok(house.public.post(re.findall(r"/a/[A-Za-z0-9_-]+", message.text or "")[0]))
    return [await ended(house, execution_id)]


async def upkeep(house: House, *, job: str) -> list[Handle]:
    """Run one of the scheduled jobs."""
    handle: Handle = await house.temporal.start_workflow(
        "UpkeepWorkflow", job, id=f"upkeep-{job}-{house.workspace_id}", task_queue=house.world.task_queue
    )
    await handle.result()
    return [handle]


async def scheduled(house: House) -> list[Handle]:
    """Let the time of a schedule come."""
    clock = node("clock", "TRIGGER_SCHEDULE", cron="0 9 1 1 *", overlap="buffer_one")
    workflow = await house.workflow(chain(clock, node("dawn", "UTILITY_LOG", message="Good morning")))
    given = ScheduledInput(
        workspace_id=house.workspace_id, workflow_id=UUID(workflow["id"]), overlap="buffer_one"
    )
    name = f"scheduled-{workflow['id']}"
    handle: Handle = await house.temporal.start_workflow(
        "ScheduledRunsWorkflow", given, id=name, task_queue=house.world.task_queue
    )
    assert await handle.result() == 1
    return [handle]


# ── how a scene is played


async def subscribe(house: House) -> None:
    """Point an endpoint at the target for every event."""
    body = {"url": house.target.url, "subscribed_events": ["*"]}
    await ok(house.api.post("/v1/webhook-endpoints", json=body))


async def started(house: House, drawn: Graph) -> UUID:
    """Publish a graph and start it by the trigger it has."""
    workflow = await house.workflow(drawn, fields=FIELDS)
    if any(each["type"] == "TRIGGER_FORM" for each in drawn["nodes"]):
        return await house.submit(workflow, ANSWERS)
    return await house.start(workflow, **ANSWERS)


async def ran(house: House, drawn: Graph, *, ends: str = "completed") -> Handle:
    """Run a graph to its end."""
    return await ended(house, await started(house, drawn), ends=ends)


async def ended(house: House, execution_id: UUID, *, ends: str = "completed") -> Handle:
    """Wait for an end, which must be the one that the scene is about."""
    run = await house.ended(execution_id)
    assert run["status"] == ends, run
    return handle_of(house, execution_id)


def handle_of(house: House, execution_id: UUID) -> Handle:
    """Name an execution's current run."""
    return house.temporal.get_workflow_handle(f"execution-{execution_id}")


SCENES: dict[str, Scene] = {
    **{name.lower(): Scene(partial(one_node, name=name)) for name in executable()},
    "action_start_workflow": Scene(child_awaited),
    "child_tells": Scene(child_tells),
    "child_released": Scene(child_released),
    "child_dropped": Scene(child_dropped),
    "child_outlasts": Scene(child_outlasts, history_limit=10),
    "intake": Scene(intake),
    "admitted_at_start": Scene(intake),
    "steps_together": Scene(steps_together),
    "concurrency": Scene(concurrency),
    "edge_rules": Scene(edge_rules),
    "local_retry": Scene(local_retry),
    "mail_put_off_once": Scene(mail_put_off, refusals=1),
    "mail_put_off_twice": Scene(mail_put_off, refusals=2),
    "on_error_continue": Scene(partial(on_error, policy="continue")),
    "on_error_branch": Scene(partial(on_error, policy="branch")),
    "on_error_fail": Scene(partial(on_error, policy="fail", ends="failed")),
    "cancelled": Scene(cancelled),
    "controlled": Scene(controlled),
    "approvers_asked": Scene(approvers_asked, refusals=1),
    "woken": Scene(woken),
    "woken_later": Scene(woken_later, history_limit=12),
    "terminated": Scene(terminated),
    "quota_exceeded": Scene(quota_exceeded),
    "reset": Scene(reset),
    "continued_as_new": Scene(continued_as_new, history_limit=10),
    "looped": Scene(looped, history_limit=14),
    "loop_out_of_breath": Scene(loop_out_of_breath),
    "delivery_retried": Scene(delivery_retried),
    "delivery_awaited": Scene(delivery_awaited),
    "scheduled": Scene(scheduled),
    **{f"upkeep_{job}": Scene(partial(upkeep, job=job)) for job in JOBS},
}
