"""TRIGGER_LEAD_STATUS_CHANGED: a run when a lead of the workspace moves on the board."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType, Result, Rule

Status = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Config(NodeConfig):
    """Which moves count; an empty list means any. The filter is weighed before there is a run."""

    from_status: list[Status] = Field(default_factory=list, max_length=100)
    to_status: list[Status] = Field(default_factory=list, max_length=100)
    filter: Rule | None = None


class Cause(Result):
    """Who or what caused it."""

    kind: str
    execution_id: str | None


class Output(Result):
    """What happened to which lead."""

    lead_id: str
    event: str
    before: str | None = Field(alias="from")
    after: str | None = Field(alias="to")
    cause: Cause


class LeadStatusChangedTrigger(NodeType):
    """Starts with a change of a lead's status."""

    name = "TRIGGER_LEAD_STATUS_CHANGED"
    title = "Lead status changed"
    summary = (
        "Starts when a lead of the workspace gets another status, through the API or by another workflow's "
        "run. `trigger` is `{lead_id, event, from, to, cause}`. A change that `fromStatus`, `toStatus` or "
        "`filter` leaves out starts no run and costs none. After five runs that caused each other no further "
        "one is started; the lead's history says so."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {"fromStatus": ["NEW"], "toStatus": ["QUALIFIED"]}
    passes = True

    @classmethod
    def pass_through(cls, config: NodeConfig, trigger: dict[str, Any], inputs: dict[str, Any]) -> Outcome:
        """Hand on what happened."""
        return Outcome(output=trigger)
