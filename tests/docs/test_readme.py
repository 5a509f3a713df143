"""README and docs: what they name exists, and what exists they name."""

import re
from pathlib import Path

import pytest

from settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CHANGELOG.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]


def test_the_configuration_table_names_every_setting_and_no_other():
    named = set(re.findall(r"`(FLOWTRACK_[A-Z_]+)`", (ROOT / "README.md").read_text()))
    assert named == {f"FLOWTRACK_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_to_one(page: str):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(link).exists(), link


def test_the_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", "".join((ROOT / page).read_text() for page in PAGES)))
    assert named <= targets
