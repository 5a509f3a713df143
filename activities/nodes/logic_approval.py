"""Asks the people who are to decide, each by a mail with links of their own, while the run waits for them."""

from hashlib import sha256

from sqlalchemy.ext.asyncio import AsyncSession

from activities import mailing
from activities.clients import links
from activities.clients.links import Decision
from activities.errors import StepFailed
from activities.mailing import Errand, Letter, Unwanted
from activities.step import Step
from activities.world import World
from db.session import Single
from workflows.messages import Outcome
from workflows.nodes.logic_approval import Approval, Config


async def run(step: Step, world: World) -> Outcome:
    """Count the decisions, and ask who was not asked before; nobody once it is decided."""
    outcome = Approval.decide(step.situation())
    if not outcome.rests:
        return outcome
    asked, failures = {}, []
    for address in addresses(step.config):
        try:
            asked[address] = await _ask(step, world, address, outcome)
        except StepFailed as error:
            failures.append(error)
            asked[address] = {"status": "failed", "error": error.message}
    # One bad address does not keep the others from deciding; a mail server that is away is tried again.
    for failure in failures:
        if failure.retryable or len(failures) == len(asked):
            raise failure
    output = outcome.output if isinstance(outcome.output, dict) else {}
    return outcome.model_copy(update={"output": {**output, "asked": asked}}) if asked else outcome


def addresses(config: Config) -> list[str]:
    """Name those of the approvers who can be asked by mail, each once."""
    named = (approver.strip().lower() for approver in config.approvers)
    return list(dict.fromkeys(each for each in named if "@" in each))


async def _ask(step: Step, world: World, address: str, waiting: Outcome) -> object:
    async def write(session: AsyncSession | Single) -> Letter | Unwanted:
        return letter(step, world, address, waiting)

    # The key outlives the person's address: what it holds is no use to find somebody by.
    effect = f"ask {sha256(address.encode()).hexdigest()[:32]}"
    errand = Errand(step=step, guarantee="at_least_once", write=write, effect=effect)
    sent = (await mailing.send(errand, world)).output
    return {"status": sent["status"], "message_id": sent["message_id"]} if isinstance(sent, dict) else sent


def letter(step: Step, world: World, address: str, waiting: Outcome) -> Letter:
    """Write to one person; the links stand in this mail and nowhere else."""
    config: Config = step.config
    name = step.given.node.label or "a step of a workflow"
    until = f"It can be decided until {waiting.wake_at:%Y-%m-%d %H:%M} UTC.\n" if waiting.wake_at else ""
    text = (
        f"{config.message or f'Your decision about “{name}” is asked for.'}\n\n"
        f"Approve:\n{_link(step, world, address, waiting, approved=True)}\n\n"
        f"Reject:\n{_link(step, world, address, waiting, approved=False)}\n\n"
        f"{until}These links decide in your name: please do not pass this mail on.\n"
    )
    return Letter(to=[address], subject=config.subject or f"Please decide: {name}", text=text)


def _link(step: Step, world: World, address: str, waiting: Outcome, *, approved: bool) -> str:
    decision = Decision(
        workspace_id=step.workspace_id,
        execution_id=step.given.execution_id,
        node_id=step.given.node.id,
        visit=step.given.visit,
        approved=approved,
        by=address,
        # After the deadline the run refuses, and the page can still say what became of it.
        expires_at=(waiting.wake_at or step.given.entered_at or step.now) + links.LIFETIME,
    )
    return links.decision_url(world.public_url, world.master_key, decision)
