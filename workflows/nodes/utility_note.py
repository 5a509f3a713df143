"""UTILITY_NOTE: a remark on the canvas."""

from typing import Any, ClassVar

from pydantic import Field

from workflows.nodetype import NodeConfig, NodeType


class Config(NodeConfig):
    """What the remark says."""

    text: str = Field("", max_length=10_000)


class Note(NodeType):
    """Explains the graph to its readers."""

    name = "UTILITY_NOTE"
    title = "Note"
    summary = "A remark on the canvas for the people who read the graph; it never runs."
    Config = Config
    example: ClassVar[dict[str, Any]] = {"text": "Everything below is for large budgets."}
    handles = ()
    never_runs = True
