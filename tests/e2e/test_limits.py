"""A limited queue is not gone around: what its steps do waits there, first attempts too."""

import asyncio

import pytest

from activities.clients import limits
from activities.clients.limits import Change
from tests.e2e.graphs import chain, node
from tests.e2e.house import House, ok

pytestmark = pytest.mark.anyio

MAIL = chain(
    node("form", "TRIGGER_FORM", "Form"),
    node(
        "mail",
        "ACTION_SEND_EMAIL",
        "Say hello",
        emailSubject="Hello",
        emailBody="<p>Hello</p>",
        retry={"maxAttempts": 1},
    ),
)
FOR_EVER: float | None = 0


async def limit(house: House, per_second: float | None) -> None:
    """Set the queue's limit, and have the worker look at once."""
    task_queue = house.world.task_queue
    await limits.change(house.temporal, "mail", Change(per_second), task_queue=task_queue)
    async with asyncio.timeout(20):
        while house.world.limits.is_limited("mail") is (per_second is None):
            await house.world.limits.look(house.temporal, task_queue=task_queue)


async def test_while_all_mail_is_held_none_goes_out_and_afterwards_all_of_it_does(
    house: House, caplog: pytest.LogCaptureFixture
):
    workflow = await house.workflow(MAIL)
    await limit(house, FOR_EVER)
    runs = [await house.submit(workflow, {"email": f"ada{n}@example.com"}) for n in range(3)]
    async with asyncio.timeout(30):
        while True:
            mail = await limits.standing(house.temporal, "mail", task_queue=house.world.task_queue)
            if mail.backlog == len(runs):
                break
            await asyncio.sleep(0.1)
    for execution_id in runs:
        step = await house.until_step(execution_id, "mail", "running")
        assert step["error"]["type"] == "queue_limited"
        why = (await ok(house.api.get(f"/v1/executions/{execution_id}/why"))).json()
        assert (why["code"], why["sentence"].endswith("-mail is limited.")) == ("queued", True), why
    assert house.catcher.messages() == []

    await limit(house, None)
    for execution_id in runs:
        assert (await house.ended(execution_id))["status"] == "completed"
        step = (await house.steps(execution_id))["mail"]
        # What the limit put off was no attempt: the one that the node allows was left.
        assert (step["status"], step["attempt"], step["error"]) == ("completed", 1, None)
        lines = (await ok(house.api.get(f"/v1/executions/{execution_id}/logs"))).json()["data"]
        assert [line["message"] for line in lines if line["message"].startswith("Attempt")] == []
    assert "Completing activity as failed" not in caplog.text
    assert len(house.catcher.messages()) == len(runs)


async def test_without_a_limit_mail_takes_the_fast_path(house: House):
    execution_id = await house.submit(await house.workflow(MAIL), {"email": "ada@example.com"})
    await house.ended(execution_id)
    # Start, the task's three, the mail's marker and the end.
    assert len(await house.history(execution_id)) == 6
