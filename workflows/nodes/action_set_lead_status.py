"""ACTION_SET_LEAD_STATUS: the lead moves on the board."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from workflows.nodetype import NodeConfig, NodeType, Result, Template


class Config(NodeConfig):
    """Where to, from where it may come, and what to do otherwise."""

    status: Template = Field(min_length=1)
    allowed_from: list[str] = Field(default_factory=list, max_length=100)
    on_conflict: Literal["skip", "fail"] = "skip"


class Output(Result):
    """Where the lead stood, and where it stands."""

    changed: bool
    before: str = Field(alias="from")
    after: str = Field(alias="to")
    reason: Literal["already", "not_allowed"] = "already"


class SetLeadStatus(NodeType):
    """Sets a lead's status."""

    name = "ACTION_SET_LEAD_STATUS"
    title = "Set the lead's status"
    summary = (
        "Moves the lead to another status. Goes on by `unchanged` if the lead has it already, or stands in a "
        "status that `allowedFrom` does not list (with `onConflict: fail` that is an error)."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {"status": "QUALIFIED", "allowedFrom": ["NEW", "CONTACTED"]}
    failure = ("status_conflict", {"status": "WON", "allowedFrom": ["OFFERED"], "onConflict": "fail"})
    handles = ("default", "unchanged")
    requires_lead = True
    changes_lead = True
