"""TRIGGER_MANUAL: a run that a person or an API client starts."""

from typing import Any, ClassVar

from workflows import shapes
from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType
from workflows.shapes import Known, Shape


class Config(NodeConfig):
    """The JSON Schema that trigger data must follow, if any."""

    input_schema: dict[str, Any] | None = None


class ManualTrigger(NodeType):
    """Starts by hand or through the API."""

    name = "TRIGGER_MANUAL"
    title = "Manual start"
    summary = "Starts when a person or an API client asks for it."
    Config = Config
    example: ClassVar[dict[str, Any]] = {"inputSchema": {"type": "object"}}
    passes = True

    @classmethod
    def outputs(cls, config: Any, known: Known) -> Shape:
        """Follow the schema, if there is one."""
        return shapes.of_schema(config.input_schema) if config.input_schema is not None else shapes.ANY

    @classmethod
    def pass_through(cls, config: NodeConfig, trigger: dict[str, Any], inputs: dict[str, Any]) -> Outcome:
        """Hand the trigger data on."""
        return Outcome(output=trigger)
