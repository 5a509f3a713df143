"""The effects: every file beside this one carries out the node type of the same file name."""

from collections.abc import Callable, Coroutine
from functools import cache
from importlib import import_module
from typing import Any

from activities.step import Step
from activities.world import World
from workflows import nodes
from workflows.messages import Outcome
from workflows.nodetype import NodeType

Effect = Callable[[Step, World], Coroutine[Any, Any, Outcome]]


def effect_of(node_type: type[NodeType]) -> Effect:
    """Return a node type's effect: the `run` of its file here."""
    return _load(nodes.module_of(node_type))


@cache
def _load(module: str) -> Effect:
    effect: Effect = import_module(f"{__name__}.{module}").run
    return effect
