"""Sends a mail to the lead, or to whom it is told, unless nobody wants it."""

from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from activities import imagined, links, mailing
from activities.mailing import Errand, Letter, Reserved, Unwanted
from activities.step import Step
from activities.world import World
from db import leads
from db.leads import Contact
from db.session import Single
from workflows.messages import Outcome
from workflows.nodes.action_send_email import Config

EVENT = "EMAIL_SENT"


async def run(step: Step, world: World) -> Outcome:
    """Send the mail, and write the lead's event with its confirmation."""
    leaves_by = links.unsubscribe(step.given, world) if step.given.lead_id is not None else None

    async def write(session: AsyncSession | Single) -> Letter | Unwanted:
        return letter(step, await _lead(session, step), leaves_by=leaves_by)

    config: Config = step.config
    tell = None if step.given.lead_id is None else partial(event, step, step.given.lead_id)
    return await mailing.send(Errand(step=step, guarantee=config.guarantee, write=write, tell=tell), world)


def simulate(step: Step) -> Outcome:
    """Write the mail as it would be sent."""
    written = letter(step, imagined.contact_of(step))
    outcome = mailing.imagine(step, written, html="emailBody", text="emailText")
    is_written = isinstance(written, Letter)
    return outcome.model_copy(update={"lead": imagined.after(step, EVENT)}) if is_written else outcome


async def _lead(session: AsyncSession | Single, step: Step) -> Contact | None:
    """Read the lead as it stands now: it may have been erased, or have unsubscribed, a moment ago."""
    if step.given.lead_id is None:
        return None
    return await leads.contact(session, step.workspace_id, step.given.lead_id)


def letter(step: Step, lead: Contact | None, *, leaves_by: str | None = None) -> Letter | Unwanted:
    """Address the mail, or say why it is not sent; `leaves_by` is the link to unsubscribe."""
    config: Config = step.config
    to, reason = recipient(step, lead)
    if to is None:
        return Unwanted(Outcome(output={"status": "skipped", "reason": reason}, handles=("skipped",)))
    return Letter(
        to=[to],
        cc=config.cc,
        bcc=config.bcc,
        reply_to=config.reply_to,
        subject=config.email_subject,
        html=config.email_body,
        text=config.email_text,
        # The mail programs' own button; to be had where the mail goes to the lead itself.
        unsubscribe_url=leaves_by
        if config.message_class == "marketing" and lead is not None and to == lead.email
        else None,
    )


def recipient(step: Step, lead: Contact | None) -> tuple[str | None, str]:
    """Choose the address, or say why there is none."""
    config: Config = step.config
    if step.given.lead_id is not None and (lead is None or lead.is_erased):
        return None, "lead_gone"
    if lead is not None and lead.has_unsubscribed and config.message_class == "marketing":
        return None, "unsubscribed"
    is_asked = step.given.node.config.get("to") is not None
    to = config.to if is_asked else (lead.email if lead else None)
    return (to.strip(), "") if to and to.strip() else (None, "no_address")


def event(step: Step, lead_id: UUID, reserved: Reserved) -> dict[str, Any]:
    """Tell the lead's history of a mail that was sent."""
    config: Config = step.config
    subject = links.hidden(config.email_subject, step.links)
    metadata = {
        "email_subject": subject,
        "to": reserved.letter.to[0],
        "message_id": reserved.message_id,
        "message_class": config.message_class,
        "sent_at": datetime.now(UTC).isoformat(),
    }
    return leads.event_of(
        step.workspace_id,
        lead_id,
        EVENT,
        description=f"Sent “{subject}”",
        metadata=metadata,
        execution_id=step.given.execution_id,
    )
