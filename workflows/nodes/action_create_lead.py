"""ACTION_CREATE_LEAD: another lead of the workflow, such as a colleague that somebody named."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from workflows.nodetype import Data, NodeConfig, NodeType, Result, Template


class Config(NodeConfig):
    """Whom, with what, and what to do if the workflow has a lead of this address already."""

    email: Template = Field(min_length=1)
    fields: dict[str, Data] = Field(default_factory=dict, max_length=100)
    on_duplicate: Literal["update", "skip", "fail"] = "update"


class Output(Result):
    """The lead of this address, and what was done to it."""

    lead_id: str
    created: bool
    changed: list[str]


class CreateLead(NodeType):
    """Creates a lead."""

    name = "ACTION_CREATE_LEAD"
    title = "Create a lead"
    summary = (
        "Creates a lead in the run's workflow and goes on by `created`. `fields` sets the lead's own fields "
        "(`first_name`, `company` …) and the form's, by `field_key`. If the workflow has a lead of this "
        "address already it goes on by `existing`, after writing the fields into that lead (`update`) or "
        "leaving it alone (`skip`); `fail` fails the step. A lead that was deleted comes back. The run "
        "itself keeps the lead it has."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "email": "sales+{{ lead.id }}@example.com",
        "fields": {"first_name": "Account of {{ lead.name }}", "company": "{{ trigger.company }}"},
        "onDuplicate": "skip",
    }
    failure = ("invalid_value", {"email": "no address"})
    handles = ("created", "existing")
    changes_lead = True
