"""TRIGGER_LEAD_CREATED: a run for each new lead of the workspace."""

from typing import Any, ClassVar

from pydantic import Field

from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType, Result, Rule


class Config(NodeConfig):
    """Which leads count; the filter is weighed before there is a run."""

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


class LeadCreatedTrigger(NodeType):
    """Starts with a new lead."""

    name = "TRIGGER_LEAD_CREATED"
    title = "Lead created"
    summary = (
        "Starts when the workspace gets a new lead, by a form, a webhook or another workflow's run. "
        "`trigger` is `{lead_id, event, from, to, cause}`. A lead for which `filter` does not hold starts no "
        "run and costs none. After five runs that caused each other no further one is started; the lead's "
        "history says so."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "filter": {"field": "lead.source", "operator": "equals", "value": "webhook"}
    }
    passes = True

    @classmethod
    def pass_through(cls, config: NodeConfig, trigger: dict[str, Any], inputs: dict[str, Any]) -> Outcome:
        """Hand on what happened."""
        return Outcome(output=trigger)
