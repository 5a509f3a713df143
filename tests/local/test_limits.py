"""`flowtrack limits`: what is asked for, what is refused, and how it is told."""

import argparse
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities.clients.limits import QUEUES, Limit, Standing
from local import limits

SINCE = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)


def parsed(*arguments: str) -> argparse.Namespace:
    verb = argparse.ArgumentParser()
    limits.add_arguments(verb)
    return verb.parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], {}),
        (["mail"], {}),
        (["mail", "--per-second", "5"], {"per_second": 5.0}),
        (["mail", "--per-second", "5", "--per-workspace", "0.5"], {"per_second": 5.0, "per_workspace": 0.5}),
        (["mail", "--hold", "--reason", "provider down"], {"per_second": 0.0}),
        (["mail", "--none"], {"per_second": None, "per_workspace": None}),
    ],
)
def test_what_is_named_is_changed_and_nothing_else(arguments: list[str], wanted: dict[str, Any]):
    assert limits.wanted(parsed(*arguments)) == wanted


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--hold"], "Name the queue"),
        (["mail", "--hold", "--none"], "Give numbers, or --hold, or --none"),
        (["mail", "--per-second", "1", "--hold"], "Give numbers, or --hold, or --none"),
        (["mail", "--reason", "why"], "A reason needs a limit"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments: list[str], says: str):
    with pytest.raises(ValueError, match=says):
        limits.wanted(parsed(*arguments))


@pytest.mark.parametrize("rate", ["-1", "nan", "fast", "inf", "100001"])
def test_a_rate_that_is_none_is_refused(rate: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parsed("mail", f"--per-second={rate}")
    assert "0 to 100000" in capsys.readouterr().err


def test_each_queue_is_told_with_who_limited_it_and_what_waits():
    ann = Limit(5, "throttled", "ann@desk", SINCE)
    found = [
        Standing("mail", ann, Limit(0.5, "throttled", "ann@desk", SINCE), 3, timedelta(seconds=12.4)),
        Standing("http", None, None, 0, timedelta(0)),
        Standing("webhooks", Limit(0, "", "", None), None, 0, timedelta(0)),
    ]
    lines = [" ".join(line.split()) for line in limits.told(found)]
    assert lines == [
        "mail 5 a second, 0.5 a second for each workspace 3 waiting, the oldest for 0:00:12",
        "since 2030-01-02 03:04 UTC by ann@desk: throttled",
        "http no limit",
        "webhooks held: nothing begins",
        "by somebody",
    ]


def test_both_rooms_mean_the_same_queues():
    assert limits.QUEUES == QUEUES


def flowtrack(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flowtrack", "limits", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "FLOWTRACK_TEMPORAL_ADDRESS": address},
    )


def test_the_command_sets_shows_and_takes_away(temporal_address: str):
    held = flowtrack(temporal_address, "http", "--hold", "--reason", "provider down")
    try:
        assert held.returncode == 0, held.stderr
        assert "held: nothing begins" in held.stdout
        assert "provider down" in held.stdout
        shown = flowtrack(temporal_address).stdout.splitlines()
        assert [line.split()[0] for line in shown if line[0] != " "] == list(QUEUES)
    finally:
        gone = flowtrack(temporal_address, "http", "--none")
    assert gone.stdout.split() == ["http", "no", "limit"]


def test_the_command_says_what_is_wrong():
    away = flowtrack("127.0.0.1:1")
    assert (away.returncode, "Temporal cannot be reached" in away.stderr) == (1, True)
    nameless = flowtrack("127.0.0.1:1", "--hold")
    assert (nameless.returncode, "Name the queue" in nameless.stderr) == (2, True)
