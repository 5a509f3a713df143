"""Node types that a test plants beside the real ones, as far as Python can tell."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import activities.nodes
import workflows.nodes


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
