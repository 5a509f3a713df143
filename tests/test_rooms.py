"""The rooms: each contract breaks when an import is planted that it forbids."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("workflows", "activities", "db", "api", "local", "telemetry")
# What the single files at the top may know of ours; import-linter sees packages only.
ALLOWED = {
    "settings": set(),
    "worker": {"settings", "activities", "db", "workflows", "telemetry"},
    "examination": {"settings", "worker", "api", "db", "local", "activities"},
    "serving": {"settings", "worker", "api", "db", "activities", "telemetry"},
    "flowtrack": {
        "settings",
        "worker",
        "serving",
        "examination",
        "api",
        "db",
        "local",
        "activities",
        "telemetry",
    },
}


@pytest.fixture
def copy(tmp_path):
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(directory: Path) -> list[str]:
    linter = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run(
        [linter, "--no-logo", "--no-cache"], cwd=directory, capture_output=True, text=True, check=False
    )
    return [line for line in result.stdout.splitlines() if " BROKEN" in line]


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("workflows", "import db", "workflows is pure"),
        ("workflows", "import sqlalchemy", "workflows is pure"),
        ("db", "import activities", "Arrows point down"),
        ("db", "import settings", "Only the files at the top read the settings"),
        ("api", "import activities.begin", "api uses activities.clients and nothing else"),
        ("activities", "import api.errors", "activities know nothing of the API"),
        ("local", "import db.session", "local starts the rooms"),
        ("telemetry", "import db.session", "telemetry knows no room"),
        ("api", "import telemetry.lines", "No room knows how it is watched"),
        ("db", "import local.ports", "No room knows how one machine runs it"),
    ],
)
def test_an_import_against_the_arrows_breaks_the_build(copy, room, line, contract):
    (copy / room / "planted.py").write_text(f'"""Planted."""\n\n{line}\n')
    assert any(name.startswith(contract) for name in broken_contracts(copy))


def test_the_rooms_as_they_are_keep_every_contract(copy):
    assert broken_contracts(copy) == []


@pytest.mark.parametrize("name", ALLOWED)
def test_a_file_at_the_top_imports_only_what_the_design_names(name):
    tree = ast.parse((ROOT / f"{name}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {module.split(".")[0] for module in imported} & {*ROOMS, *ALLOWED}
    assert ours <= ALLOWED[name]
