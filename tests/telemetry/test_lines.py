"""Log lines are JSON that says in our words what they are about, whoever wrote them."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from telemetry import lines

IDS = {"workspace_id": "w", "execution_id": "e"}


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Configure as a process does, and leave the test run as it was."""
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    lines.configure("info", stream=stream)
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_what_is_bound_stands_in_our_lines_and_in_the_libraries(written: io.StringIO):
    with structlog.contextvars.bound_contextvars(**IDS):
        structlog.get_logger().info("ours", reason="x")
        logging.getLogger("theirs").warning("theirs %s", 1)
    ours, theirs = read(written)
    assert ours["event"] == "ours"
    assert theirs["event"] == "theirs 1"
    assert all(line.items() >= IDS.items() for line in (ours, theirs))
    assert (ours["level"], theirs["level"]) == ("info", "warning")


def test_extra_of_the_standard_library_stands_in_the_line(written: io.StringIO):
    logging.getLogger("x").warning("told", extra=IDS)
    assert read(written)[0].items() >= IDS.items()


def test_a_line_of_an_activity_names_execution_step_and_attempt_and_not_in_its_text(written: io.StringIO):
    environment = ActivityEnvironment()
    environment.info = replace(
        ActivityEnvironment.default_info(), activity_id="mail:2", workflow_id="execution-e", attempt=3
    )
    environment.run(lambda: activity.logger.warning("told"))
    line = read(written)[0]
    assert line["event"] == "told"
    assert (line["execution_id"], line["step"], line["attempt"]) == ("e", "mail:2", 3)
    assert "temporal_activity" not in line


def test_an_exception_stands_in_its_line_as_text(written: io.StringIO):
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError: why" in read(written)[0]["exception"]


def test_what_lies_below_the_level_is_not_written(written: io.StringIO):
    structlog.get_logger().debug("quiet")
    logging.getLogger("x").debug("quiet")
    assert read(written) == []


@pytest.mark.parametrize(
    ("error", "named", "where"),
    [
        (ApplicationError("canary", type="refused"), "refused", False),
        (ApplicationError("canary"), "ApplicationError", False),
        (ValueError("canary"), "ValueError", True),
    ],
)
def test_a_failed_attempt_is_told_by_its_type_and_place_and_not_in_its_words(
    written: io.StringIO, error: Exception, named: str, where: bool
):
    def fail() -> None:
        try:
            raise error
        except Exception:
            # As the SDK does (temporalio/worker/_activity.py).
            activity.logger.warning("failed", exc_info=True, extra={lines.SORT: "ActivityFailure"})

    ActivityEnvironment().run(fail)
    (line,) = read(written)
    assert line["error"] == named
    assert ("in fail" in line.get("exception", "")) is where
    assert "canary" not in written.getvalue()
    assert lines.SORT not in line
