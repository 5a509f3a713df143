"""LOGIC_GOTO: the run goes back to an earlier node, so many times and no more."""

from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field

from workflows.graph import Loop
from workflows.loops import EXHAUSTED, JUMP
from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType, Result, Situation

LARGEST = 10_000


class Config(NodeConfig):
    """Where to, and how often."""

    target_node_id: str = Field(min_length=1, max_length=200)
    max_visits: int = Field(10, ge=1, le=LARGEST)
    min_interval_seconds: float = Field(0, ge=0, le=31_536_000)


class Output(Result):
    """How often the target has run since the loop was entered."""

    visits: int


class GoTo(NodeType):
    """Jumps back."""

    name = "LOGIC_GOTO"
    title = "Go to"
    summary = (
        "Goes back to an earlier node, from which everything up to here runs again, until it was run "
        "`maxVisits` times; then it goes on by `exhausted`. Before each jump it waits for "
        "`minIntervalSeconds`. An edge that leaves the circle is followed once. An edge from `default` to "
        "the target only draws the way back."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {"targetNodeId": "log", "maxVisits": 3}
    handles = (EXHAUSTED, JUMP)
    decides = True

    @classmethod
    def loop(cls, config: Any) -> Loop:
        """Repeat what lies between the target and here."""
        return Loop(kind="jump", cap=config.max_visits, target=config.target_node_id)

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Jump while visits are left."""
        config: Config = situation.config
        visits = (situation.visit - 1) % config.max_visits + 1
        output = {"visits": visits}
        if visits >= config.max_visits:
            return Outcome(output=output, handles=(EXHAUSTED,))
        pause = timedelta(seconds=config.min_interval_seconds)
        wake_at = situation.now + pause if pause else None
        return Outcome(output=output, handles=(JUMP,), wake_at=wake_at)
