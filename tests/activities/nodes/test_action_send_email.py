"""ACTION_SEND_EMAIL over real SMTP: once, under each guarantee, with every way to fail."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import update

from activities import mailing
from db import effects
from db.models import UsageQuota
from local import ports
from local.mail import Catcher
from tests.activities.conftest import Stage, mail_client

pytestmark = pytest.mark.anyio

SEND = "ACTION_SEND_EMAIL"
HELLO = {"emailSubject": "Hello {{ lead.name }}", "emailBody": "<p>Hi {{ lead.name }}</p>"}
TRANSACTIONAL = {**HELLO, "messageClass": "transactional"}


@dataclass
class Moody:
    """A mail server that answers as it is told and keeps what it got."""

    rcpt: str = "250 OK"
    data: str = "250 OK"
    hang_up: bool = False
    got: list[str] = field(default_factory=list)
    port: int = 0

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Answer to a recipient."""
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Answer to a message, or leave without a word after taking it."""
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        self.got += [line for line in content.decode().splitlines() if line.startswith("Message-ID")]
        if self.hang_up:
            server.transport.abort()  # type: ignore[union-attr]  # it is there while data comes in
        return self.data


@pytest.fixture
async def moody() -> AsyncIterator[Moody]:
    """Start a moody mail server."""
    handler = Moody()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(handler), "127.0.0.1", 0)
    handler.port = server.sockets[0].getsockname()[1]
    yield handler
    server.close()
    await server.wait_closed()


async def test_a_mail_goes_out_and_everything_tells_of_it(stage: Stage, smtp_catcher: Catcher):
    outcome = await stage.run(SEND, {**HELLO, "cc": ["Bob <bob@example.com>"], "bcc": "eve@example.com"})
    (message,) = smtp_catcher.messages()
    assert message.subject == "Hello Ada"
    assert message.html is not None
    assert "<p>Hi Ada</p>" in message.html
    assert sorted(message.to) == ["ada@example.com", "bob@example.com", "eve@example.com"]
    assert "eve" not in str(message.headers)
    assert message.headers["From"] == "FlowTrack <hello@flowtrack.example>"
    output = outcome.output
    assert output["status"] == "sent"
    assert message.headers["Message-ID"] == output["message_id"]
    ((kind, told),) = await stage.events()
    assert kind == "EMAIL_SENT"
    assert told["message_id"] == output["message_id"]
    assert await stage.uses() == ["email_sent"]
    assert await stage.effects() == {"email": "confirmed"}
    assert await quota(stage) == 1


async def test_a_repeated_step_sends_nothing_again(stage: Stage, smtp_catcher: Catcher):
    first, second = await stage.run(SEND, HELLO), await stage.run(SEND, HELLO, attempt=2)
    assert first.output == second.output
    assert len(smtp_catcher.messages()) == 1
    assert len(await stage.events()) == 1
    assert await stage.uses() == ["email_sent"]
    assert await quota(stage) == 1


async def test_a_repeat_needs_no_mail_server(stage: Stage):
    first = await stage.run(SEND, HELLO)
    world = replace(stage.world, smtp=mail_client(ports.free(), connect_deadline=1.0))
    assert (await stage.run(SEND, HELLO, attempt=2, world=world)).output == first.output


async def test_another_visit_is_another_mail(stage: Stage, smtp_catcher: Catcher):
    await stage.run(SEND, HELLO)
    await stage.run(SEND, HELLO, visit=2)
    assert len({message.headers["Message-ID"] for message in smtp_catcher.messages()}) == 2


async def test_a_first_attempt_works_beside_the_workflow(stage: Stage, smtp_catcher: Catcher):
    await stage.run(SEND, HELLO, local=True)
    assert len(smtp_catcher.messages()) == 1


@pytest.mark.parametrize(
    ("config", "lead", "reason"),
    [
        ({}, {"deleted_at": datetime.now(UTC)}, "lead_gone"),
        ({}, {"erased_at": datetime.now(UTC)}, "lead_gone"),
        ({}, {"unsubscribed_at": datetime.now(UTC)}, "unsubscribed"),
        ({"to": "{{ lead.phone }}"}, {}, "no_address"),
        ({"to": "{{ lead.fields.second_email }}"}, {}, "no_address"),
        ({"to": " "}, {}, "no_address"),
    ],
)
async def test_where_nobody_is_to_be_written_to_the_step_is_skipped(
    stage: Stage, smtp_catcher: Catcher, config: Any, lead: Any, reason: str
):
    given = {**HELLO, **config}
    scope = (await stage.given(SEND, given)).scope
    await stage.change_lead(**lead)
    outcome = await stage.run(SEND, given, scope=scope)
    assert outcome.handles == ("skipped",)
    assert outcome.output == {"status": "skipped", "reason": reason}
    assert smtp_catcher.messages() == []
    assert await quota(stage) == 0


async def test_who_unsubscribed_still_gets_what_they_asked_for(stage: Stage, smtp_catcher: Catcher):
    await stage.change_lead(unsubscribed_at=datetime.now(UTC))
    await stage.run(SEND, TRANSACTIONAL)
    assert len(smtp_catcher.messages()) == 1


async def test_a_run_without_a_lead_writes_to_whom_it_is_told(stage: Stage, smtp_catcher: Catcher):
    config = {"to": "{{ trigger.who }}", "emailSubject": "Hi", "emailText": "Hi"}
    stage.trigger["who"] = "grace@example.com"
    stage.lead_id = None
    await stage.run(SEND, config)
    assert smtp_catcher.messages()[0].to == ["grace@example.com"]
    skipped = await stage.run(SEND, {"emailSubject": "Hi", "emailText": "Hi"}, visit=2)
    assert skipped.handles == ("skipped",)


@pytest.mark.parametrize(
    ("config", "type_"),
    [
        ({"emailSubject": "{{ lead.nickname }}"}, "template_error"),
        ({"emailSubject": "a\r\nBcc: eve@example.com"}, "refused_message"),
        ({"emailSubject": "=?utf-8?q?a=0ABcc:_eve@example.com?="}, "refused_message"),
        ({"to": "ada@example.com, eve@example.com"}, "refused_message"),
        ({"to": "nobody"}, "refused_message"),
        ({"replyTo": "x\n@example.com"}, "refused_message"),
        ({"cc": ["nobody"]}, "refused_message"),
    ],
)
async def test_what_cannot_be_sent_as_meant_is_not_sent(
    stage: Stage, smtp_catcher: Catcher, config: Any, type_: str
):
    failure = await stage.fail(SEND, {**HELLO, **config})
    assert (failure.type, failure.non_retryable) == (type_, True)
    assert smtp_catcher.messages() == []
    assert (await stage.effects()).get("email") != "confirmed"


async def test_a_name_cannot_add_a_recipient(stage: Stage, smtp_catcher: Catcher):
    await stage.change_lead(first_name="Eve <eve@example.com>, x")
    await stage.run(SEND, {**HELLO, "to": "{{ lead.name }} <{{ lead.email }}>", "emailSubject": "Hi"})
    assert smtp_catcher.messages()[0].to == ["ada@example.com"]


async def test_a_mail_server_that_is_away_defers_the_step(stage: Stage):
    world = replace(stage.world, smtp=mail_client(ports.free(), connect_deadline=1.0))
    failure = await stage.fail(SEND, HELLO, world=world)
    assert (failure.type, failure.non_retryable) == ("mail_deferred", False)
    failure = await stage.fail(SEND, HELLO, world=world, attempt=5)
    assert failure.non_retryable
    # Nothing was tried and nothing is counted; the row that an attempt leaves would say that it is paid for.
    assert (await stage.effects(), await quota(stage)) == ({}, 0)
    assert (await stage.run(SEND, HELLO, attempt=2)).handles == ("default",)
    assert await quota(stage) == 1


@pytest.mark.parametrize(
    ("answers", "type_", "is_final"),
    [
        ({"rcpt": "550 no such user"}, "mail_refused", True),
        ({"rcpt": "451 come back later"}, "mail_deferred", False),
        ({"data": "554 spam"}, "mail_refused", True),
        ({"data": "452 disk full"}, "mail_deferred", False),
    ],
)
async def test_a_refusal_releases_the_effect_and_counts_once(
    stage: Stage, moody: Moody, answers: dict[str, str], type_: str, is_final: bool
):
    for name, answer in answers.items():
        setattr(moody, name, answer)
    world = replace(stage.world, smtp=mail_client(moody.port))
    failure = await stage.fail(SEND, HELLO, world=world)
    assert (failure.type, failure.non_retryable) == (type_, is_final)
    assert (await stage.effects())["email"] == "released"
    assert await stage.events() == []
    await stage.run(SEND, HELLO, attempt=2)
    assert (await stage.effects())["email"] == "confirmed"
    assert await quota(stage) == 1


async def test_a_mail_that_was_given_back_stays_paid_for_whatever_comes_between(
    stage: Stage, moody: Moody, smtp_catcher: Catcher
):
    moody.rcpt = "451 come back later"
    await stage.fail(SEND, HELLO, world=replace(stage.world, smtp=mail_client(moody.port)))
    await stage.change_lead(unsubscribed_at=datetime.now(UTC))
    assert (await stage.run(SEND, HELLO, attempt=2)).handles == ("skipped",)
    assert await stage.effects() == {"email": "released"}
    await stage.change_lead(unsubscribed_at=None)
    await stage.run(SEND, HELLO, attempt=3)
    assert len(smtp_catcher.messages()) == 1
    assert await quota(stage) == 1


async def test_at_most_once_never_sends_again_what_may_have_gone_out(stage: Stage, moody: Moody):
    moody.hang_up = True
    world = replace(stage.world, smtp=mail_client(moody.port))
    for attempt in (1, 2):
        failure = await stage.fail(SEND, HELLO, world=world, attempt=attempt)
        assert (failure.type, failure.non_retryable) == ("outcome_unknown", True)
    assert len(moody.got) == 1
    assert (await stage.effects())["email"] == "unknown"
    assert await stage.events() == []


async def test_at_least_once_sends_again_under_the_same_id(stage: Stage, moody: Moody, smtp_catcher: Catcher):
    moody.hang_up = True
    world = replace(stage.world, smtp=mail_client(moody.port))
    failure = await stage.fail(SEND, TRANSACTIONAL, world=world)
    assert (failure.type, failure.non_retryable) == ("mail_unknown", False)
    assert (await stage.effects())["email"] == "unknown"
    outcome = await stage.run(SEND, TRANSACTIONAL, attempt=2)
    output = outcome.output
    assert moody.got == [f"Message-ID: {output['message_id']}"]
    assert smtp_catcher.messages()[0].headers["Message-ID"] == output["message_id"]
    assert (await stage.effects())["email"] == "confirmed"
    assert len(await stage.events()) == 1


async def test_a_refusal_after_a_doubt_leaves_the_doubt(stage: Stage, moody: Moody):
    world = replace(stage.world, smtp=mail_client(moody.port))
    moody.hang_up = True
    await stage.fail(SEND, TRANSACTIONAL, world=world)
    moody.hang_up, moody.rcpt = False, "550 no such user"
    failure = await stage.fail(SEND, TRANSACTIONAL, world=world, attempt=2)
    assert failure.type == "mail_refused"
    assert (await stage.effects())["email"] == "unknown"


@pytest.mark.parametrize(
    ("config", "sent", "status"), [(HELLO, 0, "unknown"), (TRANSACTIONAL, 1, "confirmed")]
)
async def test_a_crash_between_reservation_and_report_is_in_doubt(
    stage: Stage, smtp_catcher: Catcher, config: Any, sent: int, status: str
):
    await reserved(stage)
    if sent:
        await stage.run(SEND, config)
    else:
        assert (await stage.fail(SEND, config)).type == "outcome_unknown"
    assert len(smtp_catcher.messages()) == sent
    assert (await stage.effects())["email"] == status


async def reserved(stage: Stage) -> None:
    """Leave what a worker leaves that dies while it sends."""
    place = stage.place
    key = effects.EffectKey(place.workspace_id, stage.execution_id, "n1", 1, "email")
    async with stage.database.workspace(place.workspace_id) as session:
        await effects.reserve(session, key)


async def test_parallel_attempts_send_one_mail(stage: Stage, smtp_catcher: Catcher):
    async def attempt() -> str:
        try:
            return str((await stage.run(SEND, HELLO)).output)
        except Exception as error:
            return type(error).__name__

    await asyncio.gather(*(attempt() for _ in range(4)))
    assert len(smtp_catcher.messages()) == 1


async def test_a_used_up_quota_sends_nothing_and_can_be_tried_again(stage: Stage, smtp_catcher: Catcher):
    await stage.run(SEND, HELLO)
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(update(UsageQuota).values(quota_limit=0))
    failure = await stage.fail(SEND, HELLO, visit=2)
    assert (failure.type, failure.non_retryable) == ("quota_exceeded", True)
    assert len(smtp_catcher.messages()) == 1
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(update(UsageQuota).values(quota_limit=100))
    await stage.run(SEND, HELLO, visit=2)
    assert len(smtp_catcher.messages()) == 2


@pytest.mark.parametrize(
    ("text", "email", "name"),
    [
        ("a@example.com", "a@example.com", ""),
        (" Ada L <a@example.com> ", "a@example.com", "Ada L"),
        ('"L, Ada" <a@example.com>', "a@example.com", "L, Ada"),
        ("<a@example.com>", "a@example.com", ""),
    ],
)
def test_a_mailbox_is_an_address_with_or_without_a_name(text: str, email: str, name: str):
    found = mailing.mailbox(text)
    assert (found.email, found.name) == (email, name)


async def quota(stage: Stage) -> int:
    """Tell how many mails the current period counts."""
    rows = [row for row in await stage.rows(UsageQuota) if row.quota_key == "email_sends"]
    return max(int(row.quota_used) for row in rows)
