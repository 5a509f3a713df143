"""LOGIC_APPROVAL: the run waits until people have decided."""

from datetime import datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field

from workflows.messages import Command, Heard, Outcome
from workflows.nodes.logic_delay import duration_of
from workflows.nodetype import MaybeTemplate, NodeConfig, NodeType, Result, Situation, Template

DECISIONS = {"approve": True, "reject": False}
"""The updates that decide."""


class Config(NodeConfig):
    """Who decides what, and by when."""

    approvers: list[Template] = Field(default_factory=list, max_length=50)
    subject: Template = ""
    message: Template = ""
    timeout: MaybeTemplate | None = None
    min_approvals: int = Field(1, ge=1, le=100)


class Output(Result):
    """What was asked, and every decision so far."""

    message: str
    decisions: list[dict[str, Any]]


class Approval(NodeType):
    """Waits for a decision."""

    name = "LOGIC_APPROVAL"
    title = "Approval"
    summary = (
        "Waits until enough people have approved, or one has rejected. Each address among `approvers` gets a "
        "mail of its own with links to decide by, which count once and for that person only. Decisions come "
        "also by `links.approve` and `links.reject` in what a node before it sends, through the API, or as "
        "the updates `approve` and `reject` in the Temporal Web UI; each person counts once."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "approvers": ["boss@example.com"],
        "message": "Send {{ lead.name }} the offer?",
        "timeout": "P2D",
    }
    failure = ("bad_duration", {"timeout": "soon"})
    handles = ("approved", "rejected", "timeout")
    decides = True
    waits = True
    asks = True
    queue = "mail"
    fast_path = True
    # As for any mail: to cut it off while the server is taking it makes its outcome unknown.
    timeout = fast_timeout = timedelta(seconds=60)

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Count the decisions so far."""
        config: Config = situation.config
        decisions = [event for event in situation.heard if event.type == event_type(situation.key)]
        by = {_of(event, "by"): _of(event, "approved") for event in decisions}
        output = {"message": config.message, "decisions": [event.data for event in decisions]}
        if any(approved is False for approved in by.values()):
            return Outcome(output=output, handles=("rejected",))
        if sum(approved is True for approved in by.values()) >= config.min_approvals:
            return Outcome(output=output, handles=("approved",))
        text = (config.timeout or "").strip()
        deadline = duration_of(text).after(situation.entered_at or situation.now) if text else None
        if deadline is not None and deadline <= situation.now:
            return Outcome(output=output, handles=("timeout",))
        waits_for = (event_type(situation.key),)
        return Outcome(output=output, handles=("timeout",), wake_at=deadline, waits_for=waits_for)


def event_type(key: str) -> str:
    """Name the event that carries a decision about one step."""
    return f"approval {key}"


def event_of(command: Command, *, approved: bool, at: datetime) -> Heard:
    """Turn what somebody decided into the event that the step waits for."""
    data = {"approved": approved, "by": command.by, "comment": command.comment}
    return Heard(type=event_type(command.step), at=at, data=data)


def decided(heard: list[Heard], key: str, by: str) -> bool | None:
    """Say how a person has decided about a step, if so."""
    said = (
        _of(event, "approved") for event in heard if event.type == event_type(key) and _of(event, "by") == by
    )
    return next((bool(approved) for approved in said), None)


def _of(event: Heard, name: str) -> Any:
    return event.data.get(name) if isinstance(event.data, dict) else None
