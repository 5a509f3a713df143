"""Sends a mail: connect, reserve, send, confirm; what nobody can know is told as unknown (security.md D2)."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities.clients import mail, smtp
from activities.clients.addresses import OutwardError
from activities.clients.mail import Composed, Mailbox
from activities.errors import StepDeferred, StepFailed
from activities.step import Step
from activities.world import World
from db import effects, leads, quotas, usage
from db.models import Lead
from workflows.messages import Outcome
from workflows.nodes.action_send_email import Config

EVENT = "EMAIL_SENT"
QUOTA = "email_sends"
FAST_CONNECT = 3.0
"""Seconds that a first attempt waits for a connection before it makes room in the workflow's worker."""
NAMED = re.compile(r"\s*(?P<name>.*?)\s*<(?P<email>[^<>]*)>\s*", re.DOTALL)
HEADERS = {"Auto-Submitted": "auto-generated"}
"""Answering machines shall not answer."""


@dataclass(frozen=True)
class Errand:
    """A mail that is reserved and to be sent now."""

    to: str
    message_id: str
    in_doubt: bool
    """An earlier attempt may have sent it already."""


async def run(step: Step, world: World) -> Outcome:
    """Send the mail under its effect key, with the guarantee that the node chose."""
    async with AsyncExitStack() as stack:
        try:
            connection = await _connect(stack, world)
        except OutwardError as error:
            return await _unconnected(step, world, error)
        errand = await _reserve(step, world)
        if isinstance(errand, Outcome):
            return errand
        try:
            composed = compose(step, world, errand)
            receipt = await connection.send(composed.message, composed.sender, composed.recipients)
        except OutwardError as error:
            return await _unsent(step, world, errand, error)
    return await _confirm(step, world, errand, composed, receipt)


async def _connect(stack: AsyncExitStack, world: World) -> smtp.Connection:
    limit = FAST_CONNECT if activity.info().is_local else None
    try:
        async with asyncio.timeout(limit):
            return await stack.enter_async_context(world.smtp.connection())
    except TimeoutError as error:
        raise smtp.Deferred("no connection to the mail server in time") from error


async def _unconnected(step: Step, world: World, error: OutwardError) -> Outcome:
    """Fail, unless an earlier attempt had done the work and only its report was lost."""
    key = step.effect("email")
    async with world.database.workspace(step.workspace_id) as session:
        known = await effects.reserve(session, key)
        if known.state == "new":
            await effects.release(session, key)
    if known.state == "confirmed":
        return Outcome(output=known.output)
    raise _failure(error) from error


async def _reserve(step: Step, world: World) -> Errand | Outcome:
    """Take the effect and its share of the quota, or say why there is nothing to send."""
    config: Config = step.config
    key = step.effect("email")
    async with world.database.workspace(step.workspace_id) as session:
        known = await effects.reserve(session, key)
        if known.state == "confirmed":
            return Outcome(output=known.output)
        to, reason = recipient(step, await _lead(session, step))
        if to is None and known.state == "new":
            await effects.release(session, key)
        if to is None:
            return Outcome(output={"status": "skipped", "reason": reason}, handles=("skipped",))
        if known.state == "new":
            await effects.once(session, step.effect("email_quota"), lambda: _take_quota(session, step))
        gives_up = known.state != "new" and config.guarantee == "at_most_once"
        if gives_up:
            await effects.doubt(session, key)
    if gives_up:
        raise _unknown()
    return Errand(to, message_id(step, world), in_doubt=known.state != "new")


async def _lead(session: AsyncSession, step: Step) -> Lead | None:
    """Read the lead as it stands now: it may have been erased, or have unsubscribed, a moment ago."""
    if step.given.lead_id is None:
        return None
    return await leads.get(session, step.workspace_id, step.given.lead_id)


def recipient(step: Step, lead: Lead | None) -> tuple[str | None, str]:
    """Choose the address, or say why there is none."""
    config: Config = step.config
    if step.given.lead_id is not None and (lead is None or lead.erased_at is not None):
        return None, "lead_gone"
    if lead is not None and lead.unsubscribed_at is not None and config.message_class == "marketing":
        return None, "unsubscribed"
    is_asked = step.given.node.config.get("to") is not None
    to = config.to if is_asked else (lead.email if lead else None)
    return (to.strip(), "") if to and to.strip() else (None, "no_address")


async def _take_quota(session: AsyncSession, step: Step) -> dict[str, Any]:
    """Take one mail; the error undoes the reservation with it, so that a later try starts clean."""
    answer = await quotas.consume(session, step.workspace_id, QUOTA)
    if isinstance(answer, quotas.Granted):
        return {"granted": True}
    raise StepFailed(
        "quota_exceeded", f"The workspace has sent {answer.used} of {answer.limit} mails in this period."
    )


def message_id(step: Step, world: World) -> str:
    """Derive the Message-ID from the effect's key: a repeat is recognisable as one."""
    domain = mailbox(world.mail_from).email.rpartition("@")[2]
    return mail.message_id(*step.effect("email").values.values(), domain=domain)


def compose(step: Step, world: World, errand: Errand) -> Composed:
    """Write the message; raises RefusedMessage."""
    config: Config = step.config
    return mail.compose(
        sender=mailbox(world.mail_from),
        to=[mailbox(errand.to)],
        cc=mailboxes(config.cc),
        bcc=mailboxes(config.bcc),
        reply_to=mailbox(config.reply_to) if config.reply_to else None,
        subject=config.email_subject,
        html=config.email_body,
        text=config.email_text,
        message_id=errand.message_id,
        date=datetime.now(UTC),
        headers=HEADERS,
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


async def _unsent(step: Step, world: World, errand: Errand, error: OutwardError) -> Outcome:
    """Record what is known of a mail that was not taken, and fail."""
    key = step.effect("email")
    async with world.database.workspace(step.workspace_id) as session:
        # This attempt sent nothing; an earlier one in doubt is not proved harmless by that.
        if error.ambiguous or errand.in_doubt:
            await effects.doubt(session, key)
        else:
            await effects.release(session, key)
    if error.ambiguous and step.config.guarantee == "at_most_once":
        raise _unknown() from error
    raise _failure(error) from error


def _unknown() -> StepFailed:
    return StepFailed("outcome_unknown", "Nobody can say whether the mail was sent; it is not sent again.")


def _failure(error: OutwardError) -> StepFailed:
    if isinstance(error, smtp.Deferred | smtp.Ambiguous):
        return StepDeferred(error.code, str(error))
    return StepFailed(error.code, str(error))


async def _confirm(
    step: Step, world: World, errand: Errand, composed: Composed, receipt: smtp.Receipt
) -> Outcome:
    """Record the mail, the lead's event and its use, in one transaction."""
    config: Config = step.config
    output = {
        "status": "sent",
        "message_id": errand.message_id,
        "to": list(composed.recipients),
        "refused": receipt.refused,
        "subject": config.email_subject,
    }
    async with world.database.workspace(step.workspace_id) as session:
        if not await effects.confirm(session, step.effect("email"), output):
            return Outcome(output=output)
        await _tell(session, step, errand)
    return Outcome(output=output)


async def _tell(session: AsyncSession, step: Step, errand: Errand) -> None:
    config: Config = step.config
    execution_id = step.given.execution_id
    if step.given.lead_id is not None:
        await leads.add_event(
            session,
            step.workspace_id,
            step.given.lead_id,
            EVENT,
            description=f"Sent “{config.email_subject}”",
            metadata={
                "email_subject": config.email_subject,
                "to": errand.to,
                "message_id": errand.message_id,
                "message_class": config.message_class,
                "sent_at": datetime.now(UTC).isoformat(),
            },
            execution_id=execution_id,
        )
    await usage.record(
        session,
        step.workspace_id,
        "email_sent",
        category="communication",
        related_type="workflow_execution",
        related_id=execution_id,
        is_billable=True,
    )
