"""UTILITY_END: here a branch ends, and the run gets its result."""

from typing import Any, ClassVar

from workflows.messages import Ending, Outcome
from workflows.nodetype import Data, NodeConfig, NodeType, Refused, Result, Situation, Template

LONGEST = 100


class Config(NodeConfig):
    """What the run came to."""

    outcome: Template = "completed"
    output: Data = None


class Output(Result):
    """The run's result."""

    outcome: str
    output: Any


class End(NodeType):
    """Ends its branch."""

    name = "UTILITY_END"
    title = "End"
    summary = (
        "Ends its branch and gives the run its outcome and output. The run completes when every branch has "
        "ended; of several ends the last one reached counts."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {"outcome": "qualified", "output": {"budget": "{{ trigger.budget }}"}}
    failure = ("bad_outcome", {"outcome": "{{ trigger.budget | slice: 0, 0 }}"})
    handles = ()
    decides = True

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Leave by no handle, with the run's result."""
        config: Config = situation.config
        outcome = config.outcome.strip()
        if not 0 < len(outcome) <= LONGEST:
            raise Refused("bad_outcome", f"outcome: a text of 1 to {LONGEST} characters is needed.")
        ending = Ending(outcome=outcome, output=config.output)
        return Outcome(output=ending.model_dump(mode="json"), handles=(), ending=ending)
