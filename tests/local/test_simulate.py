"""What a saved simulation expects is compared as far as it says, and told readably."""

from typing import Any

import pytest

from local import simulate

TOLD: dict[str, Any] = {
    "outcome": {"status": "completed", "reason": None, "output": {"n": 1}},
    "path": ["form: completed", "check: completed → condition_true"],
    "mails": [{"to": ["ada@example.com"], "subject": "Hello", "html": "<p>Hi</p>"}],
    "steps": [{"node_type": "LOGIC_DELAY", "input_data": {"mode": "duration"}}],
    "virtual_time": "P14D",
}


@pytest.mark.parametrize(
    "expected",
    [{}, {"outcome": {"status": "completed"}}, {"mails": [{"subject": "Hello"}]}, TOLD],
)
def test_what_is_not_named_may_be_anything(expected: dict[str, Any]):
    assert list(simulate.differences(expected, TOLD)) == []


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({"outcome": {"status": "failed"}}, ['  outcome.status: "failed" was expected, it is "completed"']),
        ({"mails": []}, ["  mails: 0 were expected, there are 1"]),
        ({"mails": [{"subject": "Bye"}]}, ['  mails[0].subject: "Bye" was expected, it is "Hello"']),
        ({"outcome": {"output": {"n": True}}}, ["  outcome.output.n: true was expected, it is 1"]),
        ({"paths": []}, ["  paths: [] was expected, there is none"]),
        (
            {"path": ["form: completed"]},
            [
                "  path: (- expected, + happened)",
                "     form: completed",
                "    +check: completed → condition_true",
            ],
        ),
    ],
)
def test_a_difference_says_where_and_what(expected: dict[str, Any], told: list[str]):
    assert list(simulate.differences(expected, TOLD)) == told


@pytest.mark.parametrize(("mode", "tells"), [("duration", True), ("local_time", False), ("until", False)])
def test_the_length_of_a_run_is_expected_only_where_it_is_the_same_tomorrow(mode: str, tells: bool):
    told = {**TOLD, "steps": [{"node_type": "LOGIC_DELAY", "input_data": {"mode": mode}}]}
    assert ("virtual_time" in simulate.expectation(told)) is tells
