"""LOGIC_FOR_EACH: a part of the graph runs once for each item of a list."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from workflows.graph import Loop
from workflows.messages import Outcome
from workflows.nodetype import Data, NodeConfig, NodeType, Refused, Result, Situation

LARGEST = 10_000


class Config(NodeConfig):
    """Over what, and how."""

    items: Data
    mode: Literal["sequential", "parallel"] = "sequential"
    concurrency: int = Field(5, ge=1, le=100)
    max_items: int = Field(1_000, ge=1, le=LARGEST)
    on_item_error: Literal["fail", "continue"] = "fail"


class Output(Result):
    """How the items went."""

    count: int
    failed: int = 0


class ForEach(NodeType):
    """Runs what leaves by `each` for every item."""

    name = "LOGIC_FOR_EACH"
    title = "For each"
    summary = (
        "Runs what `each` leads to once for every item of a list, one after the other or, with `mode: "
        "parallel`, `concurrency` at a time, and goes on by `done` after the last. There `loop.item` is the "
        "item, `loop.index` its place from 0, `loop.count` how many there are and `loop.outer` the loop "
        "around. An item ends where its branches end or lead back here. A failed item fails the loop; with "
        "`onItemError: continue` it is counted. `steps.<saveAs>` is `{count, failed}`."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {"items": "{{ trigger.guests }}"}
    failure = ("not_a_list", {"items": "{{ trigger.budget }}"})
    handles = ("done", "each", "error")
    keeps_out = frozenset({"items"})
    decides = True

    @classmethod
    def takes_one_way(cls, config: NodeConfig) -> bool:
        """Leave by `each` and `done`."""
        return False

    @classmethod
    def loop(cls, config: Any) -> Loop:
        """Repeat what follows `each`."""
        at_once = config.concurrency if config.mode == "parallel" else 1
        fails = config.on_item_error == "fail"
        return Loop(kind="each", cap=config.max_items, at_once=at_once, fails=fails)

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Take the items; the step ends with the last of them."""
        items = situation.config.items
        if not isinstance(items, list | tuple):
            kind = "nothing" if items is None else type(items).__name__
            raise Refused("not_a_list", f"items: expected a list, got {kind}.")
        if len(items) > situation.config.max_items:
            message = f"items: {len(items):,} items, and maxItems allows {situation.config.max_items:,}."
            raise Refused("too_many_items", message)
        return Outcome(output={"count": len(items)}, handles=("done",), items=tuple(items))
