"""What a walk remembers: one frame for each turn of a loop, and one for the whole run. Plain data."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field, model_validator

from workflows.graph import Edge

EdgeState = Literal["taken", "dead"]
ROOT = ""
"""The frame of what no loop runs."""


class Decision(NamedTuple):
    """What the walk says of one node: run it, or skip it and why."""

    key: str
    node_id: str
    ready: bool
    reason: str | None = None


class LoopOver(NamedTuple):
    """All items of a loop are through; its head leaves by `done` once that is finished."""

    key: str
    node_id: str
    items: int
    failed: int


class Frame(BaseModel):
    """One turn of a loop, or the whole run."""

    edges: dict[str, EdgeState] = Field(default_factory=dict)
    visits: dict[str, int] = Field(default_factory=dict)
    """The visit of each decided node; one that is not named here is still open."""
    open: list[str] = Field(default_factory=list)
    """Of an item: keys of the steps that are ready and have not ended, in inner loops too."""
    withheld: dict[str, int] = Field(default_factory=dict)
    """Of a `jump`: edges out of the loop that this turn did not take, by their source's visit; a later
    turn may."""
    is_last: bool = False
    """Of a `jump`: it has not jumped and will not."""


class Items(BaseModel):
    """A loop over items that is under way."""

    count: int
    begun: int = 0
    ended: int = 0
    failed: int = 0


class WalkState(Frame):
    """Plain data, so that continue-as-new and the mirror can carry a walk on."""

    frames: dict[str, Frame] = Field(default_factory=dict)
    """Turns under way, by `<loop>/<visit of what it runs>`."""
    loops: dict[str, Items] = Field(default_factory=dict)
    """Loops over items under way, by the key of their head."""
    decided: int = 0
    """How many decisions were made."""

    @model_validator(mode="before")
    @classmethod
    def _count_decided(cls, data: Any) -> Any:
        """Count for a state that was written before there were loops."""
        if isinstance(data, dict) and "decided" not in data:
            return {**data, "decided": sum(data.get("visits", {}).values())}
        return data


Decided = Decision | LoopOver


class Counts:
    """How the joins of a frame stand: counted, not looked up, as a join may have thousands of branches."""

    def __init__(self, arriving: Mapping[str, tuple[Edge, ...]], frame: Frame) -> None:
        self.undecided = {node_id: len(edges) for node_id, edges in arriving.items()}
        self.taken = dict.fromkeys(arriving, 0)
        for edge in (edge for edges in arriving.values() for edge in edges):
            if edge.id in frame.edges:
                self.count(edge, frame.edges[edge.id])

    def count(self, edge: Edge, state: EdgeState) -> None:
        """Take a decided edge into account."""
        self.undecided[edge.target] -= 1
        self.taken[edge.target] += state == "taken"
