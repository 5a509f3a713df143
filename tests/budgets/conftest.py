"""What budgets are counted on: the house of the end-to-end tests, and the stage of single steps."""

from tests.activities.conftest import stage, world
from tests.e2e.conftest import house, target

__all__ = ["house", "stage", "target", "world"]
