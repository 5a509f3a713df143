"""UTILITY_LOG: a line in the execution's log."""

from typing import Any, ClassVar, Literal

from workflows.messages import LogLine, Outcome
from workflows.nodetype import Data, NodeConfig, NodeType, Result, Situation, Template


class Config(NodeConfig):
    """What to write, and how loudly."""

    level: Literal["DEBUG", "INFO", "WARN", "ERROR"] = "INFO"
    message: Template
    data: Data = None


class Output(Result):
    """The line as it was written."""

    level: str
    message: str
    data: Any


class Log(NodeType):
    """Writes a line; the mirror puts it into `execution_logs`."""

    name = "UTILITY_LOG"
    title = "Write to the log"
    summary = "Writes a line into the execution's log."
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {"level": "INFO", "message": "Budget is {{ trigger.budget }}"}
    failure = ("template_error", {"message": "{{ lead.nickname }}"})
    decides = True

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Give the line as output and as log."""
        config: Config = situation.config
        line = LogLine(level=config.level, message=config.message, data=config.data)
        return Outcome(output=line.model_dump(), log=(line,))
