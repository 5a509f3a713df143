"""The `links` of a step's templates: made when they are rendered, and kept out of all that is remembered."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from activities.clients import links
from activities.clients.links import Decision, Leaving
from activities.world import World
from workflows.graph import step_key
from workflows.messages import StepInput


def of_step(given: StepInput, world: World, now: datetime) -> dict[str, str]:
    """Write the links that a node's templates name."""
    asked, written = named(given), dict[str, str]()
    if given.node.approval is not None:
        for name in asked & {"approve", "reject"}:
            decision = Decision(
                workspace_id=given.workspace_id,
                execution_id=given.execution_id,
                node_id=given.node.approval,
                visit=given.visit,
                approved=name == "approve",
                by=f"link in {step_key(given.node.id, given.visit)}",
                # Whole days: a second attempt writes the same link.
                expires_at=(now + links.LIFETIME).replace(hour=0, minute=0, second=0, microsecond=0),
            )
            written[name] = links.decision_url(world.public_url, world.master_key, decision)
    if "unsubscribe" in asked and given.lead_id is not None:
        written["unsubscribe"] = unsubscribe(given, world)
    return written


def named(given: StepInput) -> set[str]:
    """Name the links that a node's templates ask for."""
    return {path.partition(".")[2] for path in given.node.reads if path.startswith("links.")}


def unsubscribe(given: StepInput, world: World) -> str:
    """Write the link by which the run's lead unsubscribes."""
    if given.lead_id is None:
        raise LookupError("the run has no lead")
    leaving = Leaving(workspace_id=given.workspace_id, lead_id=given.lead_id)
    return links.unsubscribe_url(world.public_url, world.master_key, leaving)


def placeholders(written: Mapping[str, str]) -> dict[str, str]:
    """Say what stands for each link where it is remembered."""
    return {name: f"[links.{name}]" for name in written}


def hidden(value: Any, written: Mapping[str, str]) -> Any:
    """Put placeholders for links that came back in a step's output."""
    if not written:
        return value
    if isinstance(value, str):
        for name, url in written.items():
            value = value.replace(url, f"[links.{name}]")
        return value
    if isinstance(value, Mapping):
        return {key: hidden(item, written) for key, item in value.items()}
    return [hidden(item, written) for item in value] if isinstance(value, list | tuple) else value
