"""Sending a node's mail: connect, reserve, send, confirm; what nobody knows is unknown (security.md D2)."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities import imagined, links
from activities.clients import mail, smtp
from activities.clients.addresses import OutwardError
from activities.clients.mail import Composed, Mailbox
from activities.errors import StepDeferred, StepFailed
from activities.step import Step
from activities.world import World
from db import effects, mails, quotas
from db.effects import EffectKey
from db.session import Single
from workflows import simulation
from workflows.messages import Outcome

EFFECT = "email"
QUOTA = "email_sends"
FAST_CONNECT = 3.0
"""Seconds that a first attempt waits for a connection before it makes room in the workflow's worker."""
NAMED = re.compile(r"\s*(?P<name>.*?)\s*<(?P<email>[^<>]*)>\s*", re.DOTALL)
IMAGINED = Mailbox("simulation@flowtrack.example")
"""The sender of what is only written in a simulated run."""
HEADERS = {"Auto-Submitted": "auto-generated"}
"""Answering machines shall not answer."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """What is to be sent, its addresses as people write them."""

    to: Sequence[str]
    cc: str | Sequence[str] | None = None
    bcc: str | Sequence[str] | None = None
    reply_to: str | None = None
    subject: str
    html: str | None = None
    text: str | None = None
    unsubscribe_url: str | None = None


@dataclass(frozen=True)
class Unwanted:
    """Nothing is to be sent, and what the step says of that."""

    outcome: Outcome


@dataclass(frozen=True)
class Reserved:
    """A letter that is to be sent now."""

    letter: Letter
    message_id: str
    in_doubt: bool
    """An earlier attempt may have sent it already."""


@dataclass(frozen=True, kw_only=True)
class Errand:
    """A node's mail."""

    step: Step
    guarantee: Literal["at_most_once", "at_least_once"]
    write: Callable[[AsyncSession | Single], Awaitable[Letter | Unwanted]]
    """Decides whom to write to, as things stand when the mail is reserved."""
    tell: Callable[[Reserved], dict[str, Any]] | None = None
    """Gives the event that a mail which was sent is to its lead; it is written with the confirmation."""
    effect: str = EFFECT
    """Tells apart the mails of a step that sends several."""

    @property
    def key(self) -> EffectKey:
        """Name the mail."""
        return self.step.effect(self.effect)


async def send(errand: Errand, world: World) -> Outcome:
    """Send the mail under its effect key, with the guarantee that the node chose."""
    async with AsyncExitStack() as stack:
        try:
            connection = await _connect(stack, world)
        except OutwardError as error:
            return await _unconnected(errand, world, error)
        reserved = await _reserve(errand, world)
        if isinstance(reserved, Outcome):
            return reserved
        try:
            composed = _compose(reserved, mailbox(world.mail_from))
            receipt = await connection.send(composed.message, composed.sender, composed.recipients)
        except OutwardError as error:
            return await _unsent(errand, world, reserved, error)
    return await _confirm(errand, world, reserved, composed, receipt)


async def _connect(stack: AsyncExitStack, world: World) -> smtp.Connection:
    limit = FAST_CONNECT if activity.info().is_local else None
    try:
        async with asyncio.timeout(limit):
            return await stack.enter_async_context(world.smtp.connection())
    except TimeoutError as error:
        raise smtp.Deferred("no connection to the mail server in time") from error


async def _unconnected(errand: Errand, world: World, error: OutwardError) -> Outcome:
    """Fail, unless an earlier attempt had done the work and only its report was lost."""
    sent = await effects.made(world.database.single(errand.step.workspace_id), errand.key)
    if sent is not None:
        return Outcome(output=sent)
    raise _failure(error) from error


async def _reserve(errand: Errand, world: World) -> Reserved | Outcome:
    """Take the effect and its share of the quota, or say why there is nothing to send."""
    key = errand.key
    single = world.database.single(key.workspace_id)
    letter = await errand.write(single)
    if isinstance(letter, Unwanted):
        sent = await effects.made(single, key)
        return letter.outcome if sent is None else Outcome(output=sent)
    if await quotas.reserve(world.database, key, QUOTA):
        return Reserved(letter, message_id(key, world), in_doubt=False)
    return await _reserve_by_steps(errand, world, letter)


async def _reserve_by_steps(errand: Errand, world: World, letter: Letter) -> Reserved | Outcome:
    """Look closer at what did not go at once: a repeat, a new period, a quota that is used up."""
    key = errand.key
    async with world.database.workspace(key.workspace_id) as session:
        known = await effects.reserve(session, key)
        if known.state == "confirmed":
            return Outcome(output=known.output)
        if known.is_first:
            await _take_quota(session, key)
        gives_up = known.state != "new" and errand.guarantee == "at_most_once"
        if gives_up:
            await effects.doubt(session, key)
    if gives_up:
        raise _unknown()
    return Reserved(letter, message_id(key, world), in_doubt=known.state != "new")


async def _take_quota(session: AsyncSession, key: EffectKey) -> None:
    """Take one mail; the error undoes the reservation with it, so that a later try starts clean."""
    full = await quotas.consume(session, key.workspace_id, QUOTA)
    if isinstance(full, quotas.Exceeded):
        raise StepFailed(
            "quota_exceeded", f"The workspace has sent {full.used} of {full.limit} mails in this period."
        )


def imagine(step: Step, letter: Letter | Unwanted, **contents: str) -> Outcome:
    """Say what sending would come to: the message is written, and so checked, and goes nowhere.

    `contents` names the settings that its parts come from.
    """
    if isinstance(letter, Unwanted):
        return letter.outcome
    name = mail.message_id(imagined.id_of(step, EFFECT), domain=IMAGINED.email.rpartition("@")[2])
    try:
        composed = _compose(Reserved(letter, name, in_doubt=False), IMAGINED)
    except OutwardError as error:
        raise _failure(error) from error
    to = list(composed.recipients)
    output = {"status": "sent", "message_id": name, "to": to, "refused": {}, "subject": letter.subject}
    told = {"to": list(letter.to), "cc": _listed(letter.cc), "bcc": _listed(letter.bcc)}
    return simulation.note({"mail": {**told, "subject": letter.subject, **contents}}, Outcome(output=output))


def _listed(given: str | Sequence[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def message_id(key: EffectKey, world: World) -> str:
    """Derive the Message-ID from the effect's key: a repeat is recognisable as one."""
    domain = mailbox(world.mail_from).email.rpartition("@")[2]
    return mail.message_id(*key.values.values(), domain=domain)


def _compose(reserved: Reserved, sender: Mailbox) -> Composed:
    """Write the message; raises RefusedMessage."""
    letter = reserved.letter
    return mail.compose(
        sender=sender,
        to=mailboxes(letter.to),
        cc=mailboxes(letter.cc),
        bcc=mailboxes(letter.bcc),
        reply_to=mailbox(letter.reply_to) if letter.reply_to else None,
        subject=letter.subject,
        html=letter.html,
        text=letter.text,
        message_id=reserved.message_id,
        date=datetime.now(UTC),
        headers=HEADERS,
        unsubscribe_url=letter.unsubscribe_url,
    )


def mailboxes(given: str | Sequence[str] | None) -> list[Mailbox]:
    """Read one address or a list; never a text with commas, as a name in it could add recipients."""
    listed = [given] if isinstance(given, str) else list(given or ())
    return [mailbox(each) for each in listed if each.strip()]


def mailbox(text: str) -> Mailbox:
    """Read `Name <address>` or an address; whether it is one, the composer checks."""
    found = NAMED.fullmatch(text)
    if found is None:
        return Mailbox(text.strip())
    name = found["name"].strip()
    is_quoted = len(name) > 1 and name[0] == name[-1] == '"'
    return Mailbox(found["email"].strip(), name[1:-1] if is_quoted else name)


async def _unsent(errand: Errand, world: World, reserved: Reserved, error: OutwardError) -> Outcome:
    """Record what is known of a mail that was not taken, and fail."""
    key = errand.key
    async with world.database.workspace(errand.step.workspace_id) as session:
        # This attempt sent nothing; an earlier one in doubt is not proved harmless by that.
        if error.ambiguous or reserved.in_doubt:
            await effects.doubt(session, key)
        else:
            await effects.release(session, key)
    if error.ambiguous and errand.guarantee == "at_most_once":
        raise _unknown() from error
    raise _failure(error) from error


def _unknown() -> StepFailed:
    return StepFailed("outcome_unknown", "Nobody can say whether the mail was sent; it is not sent again.")


def _failure(error: OutwardError) -> StepFailed:
    if isinstance(error, smtp.Deferred | smtp.Ambiguous):
        return StepDeferred(error.code, str(error))
    return StepFailed(error.code, str(error))


async def _confirm(
    errand: Errand, world: World, reserved: Reserved, composed: Composed, receipt: smtp.Receipt
) -> Outcome:
    """Record the mail, its use and the lead's event."""
    step = errand.step
    output = {
        "status": "sent",
        "message_id": reserved.message_id,
        "to": list(composed.recipients),
        "refused": receipt.refused,
        "subject": links.hidden(reserved.letter.subject, step.links),
    }
    event = errand.tell(reserved) if errand.tell is not None else None
    await mails.confirm(world.database, errand.key, output, event)
    return Outcome(output=output)
