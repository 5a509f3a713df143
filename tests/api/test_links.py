"""The pages behind links: a look changes nothing, a click does, and what is over is said kindly."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from uuid_utils.compat import uuid7

from activities.clients import links
from activities.clients.links import Decision, Leaving
from db import leads
from db.models import ExecutionStep, Lead, WorkflowExecution
from db.session import Database
from tests.api.conftest import BASE, KEY, Publish, Recorder, Tenant

pytestmark = pytest.mark.anyio

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
async def decision(
    publish: Publish, anonymous: httpx.AsyncClient, database: Database, acme: Tenant
) -> Decision:
    """Have a run wait for an approval, as the mirror shows it."""
    form = await publish()
    answer = await anonymous.post(form.path, json={"email": "ada@example.com"})
    execution_id = UUID(answer.json()["execution_id"])
    async with database.workspace(acme.workspace_id) as session:
        execution = await session.get_one(WorkflowExecution, execution_id)
        execution.status = "waiting"
        session.add(
            ExecutionStep(
                workspace_id=acme.workspace_id,
                id=uuid7(),
                execution_id=execution_id,
                node_id="ask",
                node_type="LOGIC_APPROVAL",
                step_number=2,
                status="running",
                input_data={"message": f"Offer? {SCRIPT}"},
            )
        )
    return Decision(
        workspace_id=acme.workspace_id,
        execution_id=execution_id,
        node_id="ask",
        visit=1,
        approved=False,
        by="boss@example.com",
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )


@pytest.fixture
def refusing(starter: Recorder, anonymous: httpx.AsyncClient) -> Callable[[Exception], httpx.AsyncClient]:
    """Have the run refuse, and knock."""

    def made(failure: Exception) -> httpx.AsyncClient:
        starter.failure = failure
        return anonymous

    return made


def path(decision: Decision) -> str:
    return links.decision_url("", KEY, decision)


async def test_only_a_click_decides(decision: Decision, anonymous: httpx.AsyncClient, starter: Recorder):
    page = await anonymous.get(path(decision))
    assert page.status_code == 200
    assert "Reject?" in page.text
    assert SCRIPT not in page.text
    assert "alert(1)" in page.text
    assert path(decision) not in page.text
    assert starter.commands == []
    form = {"content-type": "application/x-www-form-urlencoded"}
    done = await anonymous.post(path(decision), headers=form)
    assert (done.status_code, "You have rejected this" in done.text) == (200, True)
    [(execution_id, name, command)] = starter.commands
    assert (execution_id, name) == (decision.execution_id, "reject")
    assert (command.by, command.step, command.once) == ("boss@example.com", "ask:1", True)


async def test_what_leads_nowhere_is_said_kindly(
    decision: Decision, anonymous: httpx.AsyncClient, starter: Recorder
):
    written = path(decision)
    strange = [
        written[:-2],
        f"/a/{'x' * 50}",
        f"/a/{'x' * 9000}",
        "/a/é",
        path(replace(decision, execution_id=uuid7())),
        path(replace(decision, workspace_id=uuid7())),
        f"/u/{'x' * 50}",
        written.replace("/a/", "/u/"),
    ]
    for link in strange:
        for answer in (await anonymous.get(link), await anonymous.post(link)):
            assert (answer.status_code, "This link is not valid" in answer.text) == (404, True), link
    late = path(replace(decision, expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    for answer in (await anonymous.get(late), await anonymous.post(late)):
        assert (answer.status_code, "expired" in answer.text) == (410, True)
    assert starter.commands == []


async def test_what_was_decided_is_said_and_by_whom_only_to_its_approvers(
    decision: Decision, anonymous: httpx.AsyncClient, database: Database
):
    async with database.workspace(decision.workspace_id) as session:
        step = (
            await session.execute(select(ExecutionStep).where(ExecutionStep.node_id == "ask"))
        ).scalar_one()
        step.status, step.handle = "completed", "rejected"
        said = ({"by": "ann@example.com", "approved": True}, {"by": "bob@example.com", "approved": False})
        step.output_data = {"decisions": list(said)}
    for by, named in (("ann@example.com", True), ("link in offer:1", False)):
        link = path(replace(decision, by=by, expires_at=datetime(2026, 1, 1, tzinfo=UTC)))
        for answer in (await anonymous.get(link), await anonymous.post(link)):
            assert (answer.status_code, "It was rejected" in answer.text) == (410, True)
            assert ("bob@example.com" in answer.text) is named
            assert "ann@example.com" not in answer.text


@pytest.mark.parametrize(
    ("failure", "status", "said"),
    [
        (RPCError("away", RPCStatusCode.UNAVAILABLE, b""), 503, "try again"),
        (RuntimeError("never connected"), 503, "try again"),
        (ApplicationError("x", "approved", type="already_decided"), 409, "You have approved this before"),
        (ApplicationError("x", type="step_not_asking"), 410, "nothing left to decide"),
    ],
)
async def test_what_the_run_does_not_take_is_explained(
    failure: Exception,
    status: int,
    said: str,
    decision: Decision,
    refusing: Callable[[Exception], httpx.AsyncClient],
):
    anonymous = refusing(failure)
    answer = await anonymous.post(path(decision))
    assert (answer.status_code, said in answer.text) == (status, True)
    if status == 410:
        early = await anonymous.post(path(replace(decision, node_id="later")))
        assert (early.status_code, "Not yet" in early.text) == (409, True)


async def test_a_lead_unsubscribes_by_a_click_and_once(
    decision: Decision, anonymous: httpx.AsyncClient, database: Database, acme: Tenant
):
    (lead,) = (await acme.client.get("/v1/leads")).json()["data"]
    leaving = Leaving(workspace_id=acme.workspace_id, lead_id=UUID(lead["id"]))
    link = links.unsubscribe_url(BASE, KEY, leaving)
    assert "ada@example.com" in (await anonymous.get(link)).text

    async def left() -> list[bool]:
        async with database.workspace(acme.workspace_id) as session:
            found = await leads.page(session, acme.workspace_id, limit=10)
        return [isinstance(each, Lead) and each.unsubscribed_at is not None for each in found]

    assert await left() == [False]
    for _ in range(2):
        answer = await anonymous.post(link, data={"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
    assert await left() == [True]
    events = (await acme.client.get(f"/v1/leads/{lead['id']}/events")).json()["data"]
    assert [event["event_type"] for event in events] == ["UNSUBSCRIBED", "FORM_SUBMITTED"]
