"""ACTION_ADD_LEAD_EVENT: a line in the lead's timeline."""

from typing import Any, ClassVar

from pydantic import Field

from workflows.nodetype import Data, NodeConfig, NodeType, Result, Template


class Config(NodeConfig):
    """What happened."""

    event_type: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.]{0,63}$")
    description: Template | None = None
    metadata: dict[str, Data] = Field(default_factory=dict, max_length=100)


class Output(Result):
    """The event that was written."""

    event_id: str
    event_type: str


class AddLeadEvent(NodeType):
    """Adds an event to a lead."""

    name = "ACTION_ADD_LEAD_EVENT"
    title = "Add a lead event"
    summary = "Adds an event to the lead's timeline, attributed to this run; it can never be changed."
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "eventType": "OFFER_SENT",
        "description": "Sent the offer for {{ trigger.product | default: 'a product' }}",
        "metadata": {"budget": "{{ trigger.budget }}"},
    }
    failure = ("template_error", {"eventType": "TOLD", "description": "{{ lead.nickname }}"})
    requires_lead = True
