"""Approvals by signed links: asked by mail, decided by a click, once for each person."""

import json
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from local import mail
from tests.e2e.graphs import edge, graph, node
from tests.e2e.house import House, ok

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")
TOKEN = re.compile(r"/a/[A-Za-z0-9_-]{20,}")


class Choosy(mail.Catcher):
    """A mail catcher that puts off what is sent to some, as often as told."""

    refusals: dict[str, int]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Answer 451 for those who are not to hear yet."""
        left = self.refusals.get(envelope.rcpt_tos[0], 0)
        if left:
            self.refusals[envelope.rcpt_tos[0]] = left - 1
            return "451 4.3.0 Come back later"
        return await super().handle_DATA(server, session, envelope)


@pytest.fixture
async def smtp_catcher(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Choosy]:
    catcher = Choosy(tmp_path_factory.mktemp("mail"))
    catcher.refusals = {}
    await catcher.start(smtp_port=0, http_port=0)
    yield catcher
    await catcher.stop()


def asking(*before: dict[str, Any], **config: Any) -> dict[str, Any]:
    """Ask, and log which way it went; what comes before stands in a row."""
    row = [FORM, *before, node("ask", "LOGIC_APPROVAL", "Ask", message="{{ lead.email }}?", **config)]
    ways = ("approved", "rejected", "timeout")
    return graph(
        *row,
        *(node(way, "UTILITY_LOG", message=way) for way in ways),
        *(edge(one["id"], other["id"]) for one, other in pairwise(row)),
        *(edge("ask", way, way) for way in ways),
    )


def links(house: House, address: str) -> list[str]:
    """Return the links in the mail to somebody: to approve, and to reject."""
    (message,) = [each for each in house.catcher.messages() if each.to == [address]]
    return TOKEN.findall(message.text or "")


async def click(house: House, link: str) -> httpx.Response:
    """Open a link and press its button."""
    shown = await ok(house.public.get(link))
    assert 'method="post"' in shown.text
    return await house.public.post(link)


async def test_each_approver_decides_once_by_links_of_their_own(house: House):
    workflow = await house.workflow(
        asking(approvers=["ann@example.com", "bob@example.com"], minApprovals=2, timeout="P1D")
    )
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    (yes, no), (also, _) = links(house, "ann@example.com"), links(house, "bob@example.com")
    assert len({yes, no, also}) == 3

    for _ in range(3):
        shown = await ok(house.public.get(yes))
    assert "ada@example.com?" in shown.text
    assert shown.headers["cache-control"] == "no-store"
    assert shown.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
    assert (await click(house, yes)).status_code == 200
    for again in (yes, no):
        second = await house.public.post(again)
        assert second.status_code == 409
        assert "You have approved this before" in second.text
    assert (await ok(house.api.get(f"/v1/executions/{execution_id}"))).json()["status"] == "waiting"
    assert (await click(house, also)).status_code == 200

    assert (await house.ended(execution_id))["status"] == "completed"
    steps = await house.steps(execution_id)
    assert steps["ask"]["handle"] == "approved"
    by = [decision["by"] for decision in steps["ask"]["output_data"]["decisions"]]
    assert by == ["ann@example.com", "bob@example.com"]
    for late in (await house.public.get(no), await house.public.post(no)):
        assert late.status_code == 410
        assert "approved by ann@example.com, bob@example.com" in late.text
    # A link is its owner's secret: nothing that others can read holds one.
    kept = json.dumps([steps, await house.logs(execution_id), await house.read_history(execution_id)])
    assert not TOKEN.search(kept)
    assert len(house.catcher.messages()) == 2


async def test_who_was_asked_first_decides_while_others_are_still_to_be_asked(
    house: House, smtp_catcher: Choosy
):
    smtp_catcher.refusals["ann@example.com"] = 2
    patient = {"retry": {"initialSeconds": 6}}
    workflow = await house.workflow(asking(approvers=["ann@example.com", "bob@example.com"], **patient))
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until(execution_id, lambda run: bool(house.catcher.messages()))
    assert (await click(house, links(house, "bob@example.com")[1])).status_code == 200

    assert (await house.ended(execution_id))["status"] == "completed"
    assert (await house.steps(execution_id))["ask"]["handle"] == "rejected"


async def test_a_mail_before_the_approval_carries_links_to_it(house: House):
    offer = node(
        "offer",
        "ACTION_SEND_EMAIL",
        to="boss@example.com",
        emailSubject="May we?",
        emailText="{{ links.approve }} or {{ links.reject }}",
        messageClass="transactional",
    )
    workflow = await house.workflow(asking(offer))
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until(execution_id, lambda run: run["status"] == "waiting")
    assert (await click(house, links(house, "boss@example.com")[0])).status_code == 200

    assert (await house.ended(execution_id))["status"] == "completed"
    steps = await house.steps(execution_id)
    assert steps["ask"]["handle"] == "approved"
    assert steps["ask"]["output_data"]["decisions"][0]["by"] == "link in offer:1"
    assert steps["offer"]["input_data"]["emailText"] == "[links.approve] or [links.reject]"
