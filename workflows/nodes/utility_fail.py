"""UTILITY_FAIL: here the run fails, on purpose."""

from typing import Any, ClassVar

from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType, Refused, Situation, Template

LONGEST = 2_000


class Config(NodeConfig):
    """Why the run fails."""

    message: Template = "The workflow ended in a failure."


class Fail(NodeType):
    """Fails the run."""

    name = "UTILITY_FAIL"
    title = "Fail"
    summary = "Fails the run with a message, whatever `onError` says, and stops its other branches."
    Config = Config
    example: ClassVar[dict[str, Any]] = {"message": "No offer for {{ lead.name }}"}
    failure = ("failed_by_node", {"message": "No offer"})
    handles = ()
    decides = True
    recovers = False

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Fail."""
        raise Refused("failed_by_node", situation.config.message[:LONGEST])
