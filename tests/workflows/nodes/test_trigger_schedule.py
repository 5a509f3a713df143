"""TRIGGER_SCHEDULE's config: one rhythm, a zone that exists, bounds."""

from typing import Any

import pytest
from pydantic import ValidationError

from workflows.nodes.trigger_schedule import Config


@pytest.mark.parametrize(
    "written",
    [
        {"cron": "0 9 * * *"},
        {"intervalSeconds": 60},
        {"cron": "0 9 * * *", "timezone": "Europe/Berlin", "overlap": "buffer_one", "jitterSeconds": 30},
        {"intervalSeconds": 3600, "leadQuery": {"status": ["NEW"]}, "batchSize": 1},
    ],
)
def test_a_rhythm_with_bounds_is_taken(written: dict[str, Any]):
    Config.model_validate(written)


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"cron": "0 9 * * *", "intervalSeconds": 60},
        {"cron": "* * * * * *"},
        {"intervalSeconds": 59},
        {"intervalSeconds": 10**12},
        {"intervalSeconds": 60, "timezone": "../etc"},
        {"intervalSeconds": 60, "timezone": "Mars/Olympus"},
        {"intervalSeconds": 60, "overlap": "sometimes"},
        {"intervalSeconds": 60, "catchupSeconds": 9},
        {"intervalSeconds": 60, "jitterSeconds": -1},
        {"intervalSeconds": 60, "batchSize": 0},
        {"intervalSeconds": 60, "leadQuery": {"state": ["NEW"]}},
    ],
)
def test_anything_else_is_told(written: dict[str, Any]):
    with pytest.raises(ValidationError):
        Config.model_validate(written)
