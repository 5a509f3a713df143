"""LOGIC_MERGE: branches meet again."""

from typing import Any, ClassVar, Literal

from workflows import shapes
from workflows.graph import Join
from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType
from workflows.shapes import Known, Shape


class Config(NodeConfig):
    """When the merge is passed, and what it makes of the branches' outputs."""

    mode: Join = "any_live"
    combine: Literal["by_branch", "list", "first"] = "by_branch"


class Merge(NodeType):
    """Joins branches."""

    name = "LOGIC_MERGE"
    title = "Merge"
    summary = (
        "Waits for branches: `any_live` for all that are still alive, `all` for every one or none, `first` "
        "for the one that arrives first. Its output holds theirs: by node id, as a list, or the first alone."
    )
    Config = Config
    example: ClassVar[dict[str, Any]] = {"mode": "any_live", "combine": "by_branch"}
    passes = True

    @classmethod
    def join(cls, config: Any) -> Join:
        """Let `mode` decide: the node is there for nothing else."""
        mode: Join = config.mode
        return mode

    @classmethod
    def outputs(cls, config: Any, known: Known) -> Shape:
        """Combine what the branches are known to output; not all of them need arrive."""
        if config.combine == "by_branch":
            return shapes.of_object(known.inputs)
        one = shapes.either(list(known.inputs.values()))
        return shapes.of_list(one) if config.combine == "list" else one

    @classmethod
    def pass_through(cls, config: Any, trigger: dict[str, Any], inputs: dict[str, Any]) -> Outcome:
        """Combine the outputs of the branches that arrived, in the order their edges were drawn."""
        outputs = list(inputs.values())
        combined = {"by_branch": inputs, "list": outputs, "first": next(iter(outputs), None)}
        return Outcome(output=combined[config.combine])
