"""The registry: every file beside this one declares one node type."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from workflows.nodetype import NodeType


@cache
def types() -> Mapping[str, type[NodeType]]:
    """Return the node types by name, in the order of their names."""
    found: dict[str, type[NodeType]] = {}
    for info in iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, NodeType)
                and value.__module__ == module.__name__
            ):
                found[value.name] = value
    return dict(sorted(found.items()))


def module_of(node_type: type[NodeType]) -> str:
    """Return the file name that a type and its effect share."""
    return node_type.__module__.rpartition(".")[2]
