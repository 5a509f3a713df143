"""The effects: every file beside this one carries out the node type of the same file name.

A file may also say what its effect comes to in a simulated run, by a pure `simulate(step)`.
"""

from collections.abc import Callable, Coroutine
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from activities.step import Step
from activities.world import World
from workflows import nodes
from workflows.messages import Outcome
from workflows.nodetype import NodeType

Effect = Callable[[Step, World], Coroutine[Any, Any, Outcome]]
Simulation = Callable[[Step], Outcome]


def effect_of(node_type: type[NodeType]) -> Effect:
    """Return a node type's effect: the `run` of its file here."""
    return _load(nodes.module_of(node_type))


def simulation_of(node_type: type[NodeType]) -> Simulation | None:
    """Return what stands in for a node type's effect in a simulated run, if its file says."""
    name = f"{__name__}.{nodes.module_of(node_type)}"
    return getattr(import_module(name), "simulate", None) if find_spec(name) else None


@cache
def _load(module: str) -> Effect:
    effect: Effect = import_module(f"{__name__}.{module}").run
    return effect
