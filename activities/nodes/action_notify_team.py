"""Tells the people of the workspace by mail."""

from sqlalchemy.ext.asyncio import AsyncSession

from activities import mailing
from activities.mailing import Errand, Letter, Unwanted
from activities.step import Step
from activities.world import World
from db import members
from db.session import Single
from workflows import simulation
from workflows.messages import Outcome
from workflows.nodes.action_notify_team import Config


async def run(step: Step, world: World) -> Outcome:
    """Send one mail to all of them."""

    async def write(session: AsyncSession | Single) -> Letter | Unwanted:
        return letter(step.config, await recipients(session, step))

    return await mailing.send(Errand(step=step, guarantee="at_least_once", write=write), world)


def simulate(step: Step) -> Outcome:
    """Write the mail as it would be sent; who has a role is not looked up."""
    config: Config = step.config
    if config.recipients == "emails":
        return mailing.imagine(step, letter(config, listed(config)), text="body")
    to = [f"role:{config.role if config.recipients == 'role' and config.role else 'owner'}"]
    told = {"to": to, "cc": [], "bcc": [], "subject": config.subject, "text": "body"}
    outcome = Outcome(output={"status": "sent", "message_id": None, "to": to, "subject": config.subject})
    return simulation.note({"mail": told}, outcome)


def listed(config: Config) -> list[str]:
    """Return the addresses that the config names, each once."""
    return list(dict.fromkeys(each.strip() for each in config.emails if each.strip()))


async def recipients(session: AsyncSession | Single, step: Step) -> list[str]:
    """Find out who is to be told, as the team stands now."""
    config: Config = step.config
    if config.recipients == "emails":
        return listed(config)
    role = config.role if config.recipients == "role" and config.role else "owner"
    return await members.addresses(session, step.workspace_id, roles=[role])


def letter(config: Config, to: list[str]) -> Letter | Unwanted:
    """Write the mail, if there is somebody to read it."""
    if not to:
        return Unwanted(Outcome(output={"status": "skipped", "reason": "no_recipients"}))
    return Letter(to=to, subject=config.subject, text=config.body)
