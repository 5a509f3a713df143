"""Node types that a test plants beside the real ones, as far as Python can tell."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import activities.nodes
import workflows.nodes
from tests.e2e import hostile

WAYS = {"local": "", "queued": 'queue = "http"', "fast": 'queue = "http"\n    fast_path = True'}
TYPE = '''"""Planted."""

from workflows.nodetype import NodeConfig, NodeType, Template


class Config(NodeConfig):
    """How to misbehave."""

    how: Template = ""


class Hostile(NodeType):
    """Misbehaves."""

    name = "ACTION_HOSTILE_{way}"
    title = "Hostile"
    summary = "Misbehaves."
    Config = Config
    {more}
'''


@contextmanager
def planted(folder: Path, name: str, *, node_type: str, effect: str | None) -> Iterator[None]:
    """Add the two files of a node type; they are gone afterwards."""
    patch = pytest.MonkeyPatch()
    written = [(workflows.nodes, node_type), *([(activities.nodes, effect)] if effect else [])]
    for package, content in written:
        beside = folder / package.__name__ / name
        beside.mkdir(parents=True)
        (beside / f"{name}.py").write_text(content)
        patch.setattr(package, "__path__", [*package.__path__, str(beside)])
    _forget()
    try:
        yield
    finally:
        patch.undo()
        _forget()
        for package in (workflows.nodes, activities.nodes):
            sys.modules.pop(f"{package.__name__}.{name}", None)
            vars(package).pop(name, None)


def _forget() -> None:
    """Forget the registry, as a new process would."""
    importlib.invalidate_caches()
    workflows.nodes.types.cache_clear()
    activities.nodes._load.cache_clear()


PASSING = '''"""Planted."""

from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType


class Config(NodeConfig):
    """How to misbehave."""

    how: str = ""


class Passing(NodeType):
    """Misbehaves where the run decides by itself."""

    name = "LOGIC_HOSTILE"
    title = "Hostile"
    summary = "Misbehaves."
    Config = Config
    passes = True

    @classmethod
    def pass_through(cls, config, trigger, inputs):
        if config.how == "raises":
            raise ValueError("s3cret")
        return "no outcome"
'''


@contextmanager
def hostile_types_in(folder: Path) -> Iterator[None]:
    """Plant one bad node type for each way to carry out a step."""
    effect = Path(hostile.__file__).read_text()
    with ExitStack() as stack:
        for way, more in WAYS.items():
            node_type = TYPE.format(way=way.upper(), more=more or 'handles = ("default",)')
            name = f"action_hostile_{way}"
            stack.enter_context(planted(folder, name, node_type=node_type, effect=effect))
        stack.enter_context(planted(folder, "logic_hostile", node_type=PASSING, effect=None))
        yield
