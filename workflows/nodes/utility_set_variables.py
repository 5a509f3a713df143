"""UTILITY_SET_VARIABLES: values to be named later in the run."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from workflows import shapes
from workflows.messages import Outcome
from workflows.nodetype import Data, NodeConfig, NodeType, Situation
from workflows.shapes import Known, Shape

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Config(NodeConfig):
    """Names and the templates of their values."""

    assignments: dict[Name, Data] = Field(min_length=1, max_length=100)


class SetVariables(NodeType):
    """Sets variables."""

    name = "UTILITY_SET_VARIABLES"
    title = "Set variables"
    summary = (
        "Gives values a name under `vars.` for the rest of the run. A lone `{{ path }}` keeps its type: "
        "a number stays a number, a list a list."
    )
    Config = Config
    example: ClassVar[dict[str, Any]] = {"assignments": {"greeting": "Hello {{ lead.name }}", "score": 10}}
    failure = ("template_error", {"assignments": {"greeting": "Hello {{ lead.nickname }}"}})
    decides = True

    @classmethod
    def outputs(cls, config: Any, known: Known) -> Shape:
        """Output what is set."""
        return shapes.of_object(cls.variables(config))

    @classmethod
    def variables(cls, config: Any) -> Mapping[str, Shape]:
        """Name what is set."""
        return {name: shapes.of_value(value) for name, value in config.assignments.items()}

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Hand the rendered values to the run."""
        assigned = dict(situation.config.assignments)
        return Outcome(output=assigned, vars=assigned)
