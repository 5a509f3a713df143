"""LOGIC_APPROVAL: each of its approvers is asked once, by a mail whose links stand nowhere else."""

import re
from typing import Any

import pytest

from activities.clients import links
from local.mail import Catcher, Message
from tests.activities.conftest import MASTER_KEY, Stage
from workflows.graph import step_key
from workflows.messages import Heard
from workflows.nodes.logic_approval import event_type

pytestmark = pytest.mark.anyio

APPROVAL = "LOGIC_APPROVAL"
ASK = {
    "approvers": ["Boss@Example.com", "{{ lead.email }}", "boss@example.com", "the whole team"],
    "message": "Send {{ lead.name }} the offer?",
    "timeout": "P2D",
}


def decisions(message: Message) -> list[links.Decision]:
    """Read the links of a mail."""
    found = re.findall(r"/a/([A-Za-z0-9_-]+)", message.text or "")
    read = [links.read_decision(MASTER_KEY, token) for token in found]
    return [decision for decision in read if decision]


def said(**data: Any) -> Heard:
    return Heard.model_validate(
        {"type": event_type(step_key("n1", 1)), "at": "2026-01-01T00:00:00Z", "data": data}
    )


async def test_each_address_among_the_approvers_is_asked_once(stage: Stage, smtp_catcher: Catcher):
    first, again = await stage.run(APPROVAL, ASK), await stage.run(APPROVAL, ASK, attempt=2)
    assert first.output["asked"] == again.output["asked"]
    assert set(first.output["asked"]) == {"boss@example.com", "ada@example.com"}
    mails = {message.to[0]: message for message in smtp_catcher.messages()}
    assert len(smtp_catcher.messages()) == len(mails) == 2
    for address, message in mails.items():
        assert message.subject.startswith("Please decide")
        assert (message.text or "").startswith("Send Ada the offer?")
        yes, no = decisions(message)
        assert (yes.approved, no.approved) == (True, False)
        assert {(one.execution_id, one.node_id, one.visit, one.by) for one in (yes, no)} == {
            (stage.execution_id, "n1", 1, address)
        }
        assert first.wake_at is not None
        assert yes.expires_at > first.wake_at
    assert await stage.uses() == ["email_sent"] * 2
    assert "/a/" not in first.model_dump_json()


async def test_nobody_is_asked_about_what_is_decided(stage: Stage, smtp_catcher: Catcher):
    outcome = await stage.run(APPROVAL, ASK, heard=(said(by="ann", approved=True),))
    assert (outcome.handles, outcome.rests) == (("approved",), False)
    assert smtp_catcher.messages() == []


async def test_a_bad_address_keeps_nobody_else_from_deciding(stage: Stage, smtp_catcher: Catcher):
    config = {**ASK, "approvers": ["no body@example.com", "boss@example.com"]}
    outcome = await stage.run(APPROVAL, config)
    assert [asked["status"] for asked in outcome.output["asked"].values()] == ["failed", "sent"]
    assert [message.to for message in smtp_catcher.messages()] == [["boss@example.com"]]
    failure = await stage.fail(APPROVAL, {**ASK, "approvers": ["no body@example.com"]}, visit=2)
    assert failure.non_retryable


async def test_links_in_a_mail_are_remembered_nowhere(stage: Stage, smtp_catcher: Catcher):
    config = {
        "emailSubject": "An offer",
        "emailBody": "<a href='{{ links.approve }}'>yes</a> <a href=\"{{ links.reject | upcase }}\">no</a>",
        "emailText": "{{ links.approve }} {{ links.reject }} {{ links.unsubscribe }}",
    }
    given = await stage.given("ACTION_SEND_EMAIL", config)
    node = given.node.model_copy(update={"approval": "ask"})
    outcome = await stage.run("ACTION_SEND_EMAIL", config, node=node)
    (message,) = smtp_catcher.messages()
    yes, no = decisions(message)
    assert (yes.node_id, yes.approved, no.approved) == ("ask", True, False)
    assert yes.by == no.by == "link in n1:1"
    assert outcome.input["emailText"] == "[links.approve] [links.reject] [links.unsubscribe]"
    kept = outcome.model_dump_json() + str(await stage.events())
    assert not re.search(r"/[aAuU]/\w", kept)
    leaving = re.search(r"/u/([A-Za-z0-9_-]+)", message.text or "")
    assert leaving is not None
    read = links.read_leaving(MASTER_KEY, leaving[1])
    assert read is not None
    assert read.lead_id == stage.lead_id
    assert message.headers["List-Unsubscribe"].endswith(f"/u/{leaving[1]}>")
    assert message.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
