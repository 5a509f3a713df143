"""ACTION_UPDATE_LEAD: what the run learned goes into the lead."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from workflows.nodetype import Data, NodeConfig, NodeType, Result


class Config(NodeConfig):
    """The lead's own fields or the form's, by name, and how the new values meet the old."""

    set: dict[str, Data] = Field(min_length=1, max_length=100)
    mode: Literal["overwrite", "if_empty", "append", "increment"] = "overwrite"


class Output(Result):
    """The names of what changed."""

    changed: list[str]


class UpdateLead(NodeType):
    """Changes a lead."""

    name = "ACTION_UPDATE_LEAD"
    title = "Update the lead"
    summary = (
        "Writes values into the lead: its own fields (`first_name`, `phone`, `company` …) or the form's, by "
        "`field_key`. It may overwrite, fill in what is empty, append text or add a number."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {"set": {"company": "{{ trigger.company }}"}, "mode": "if_empty"}
    failure = ("unknown_field", {"set": {"no_such_field": "x"}})
    requires_lead = True
    changes_lead = True
