"""`flowtrack up` with everything real: started, killed piece by piece, stopped, started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

PORTS = ("--api-port", "--temporal-port", "--temporal-ui-port", "--mail-port", "--smtp-port")
KEYS = {
    "api_url",
    "api_key",
    "workspace_slug",
    "workflow_id",
    "form_url",
    "temporal_address",
    "temporal_ui_url",
    "database_url",
    "mail_url",
    "pids",
}


class Up:
    """A running `flowtrack up` and what it says of itself."""

    def __init__(self, data_dir: Path, *, arguments: tuple[str, ...] = ()) -> None:
        self.data_dir = data_dir
        self.output = data_dir.with_suffix(".out")
        flags = [flag for port in PORTS if port not in arguments for flag in (port, "0")]
        command = [sys.executable, "-m", "flowtrack", "up", "--data-dir", str(data_dir), "--no-demo", *flags]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOWTRACK_")}
        with self.output.open("a") as output:
            self.process = subprocess.Popen(
                [*command, *arguments], env=environment, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def card(self) -> dict[str, Any]:
        card: dict[str, Any] = json.loads((self.data_dir / "up.json").read_text())
        return card

    @property
    def pids(self) -> dict[str, int]:
        pids: dict[str, int] = self.card["pids"]
        return pids

    def wait_until_ready(self) -> None:
        until(lambda: self.is_up() or self.process.poll() is not None, seconds=180)
        assert self.process.poll() is None, self.output.read_text()

    def is_up(self) -> bool:
        # One that was killed leaves its up.json behind until the next one starts.
        return (self.data_dir / "up.json").exists() and all(map(is_alive, self.pids.values()))

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def get(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.card['api_key']}"}
        return httpx.get(f"{self.card['api_url']}{path}", headers=headers, timeout=5, trust_env=False)

    def is_well(self) -> bool:
        try:
            return bool(self.get("/readyz").json()["temporal"] == "reachable")
        except (httpx.HTTPError, KeyError, ValueError):
            return False


def until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    machine = Up(tmp_path_factory.mktemp("up") / "data")
    try:
        machine.wait_until_ready()
        yield machine
    finally:
        code = machine.stop()
    assert code == 0, machine.output.read_text()


@pytest.fixture
def begun():
    """Start machines that a test which fails does not leave behind."""
    machines: list[Up] = []

    def begin(data_dir: Path, **more: Any) -> Up:
        machines.append(Up(data_dir, **more))
        return machines[-1]

    yield begin
    for machine in machines:
        machine.stop()


def test_up_says_how_to_reach_everything(up):
    assert set(up.card) == KEYS
    assert set(up.pids) == {"api", "worker", "temporal", "postgres"}
    assert all(map(is_alive, up.pids.values()))
    assert up.is_well()
    assert httpx.get(up.card["form_url"], trust_env=False).status_code == 200
    assert httpx.get(up.card["mail_url"], trust_env=False).json() == []
    assert httpx.get(up.card["temporal_ui_url"], trust_env=False).status_code == 200
    assert up.get(f"/v1/workflows/{up.card['workflow_id']}").status_code == 200
    with psycopg.connect(up.card["database_url"]) as connection:
        found = connection.execute("SELECT slug FROM workspaces").fetchall()
    assert found == [(up.card["workspace_slug"],)]


def test_what_holds_secrets_or_peoples_data_is_closed_to_others(up):
    for name in ("up.json", "environment.json", "demo.json", "master.key", "temporal.sqlite", "mail", "logs"):
        assert (up.data_dir / name).stat().st_mode & 0o077 == 0


def test_the_doctor_examines_the_up_beside_it_and_finds_it_well(up):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOWTRACK_")}
    command = [sys.executable, "-m", "flowtrack", "doctor", "--json", "--data-dir", str(up.data_dir)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    findings = json.loads(told.stdout)["findings"]
    assert [each for each in findings if each["level"] != "ok"] == []
    assert told.returncode == 0
    assert {"Mail", "Pollers", "Upkeep", "Public URL", "Stuck runs"} <= {each["subject"] for each in findings}


def test_a_second_up_on_the_same_data_is_refused(up, begun):
    second = begun(up.data_dir)
    assert second.process.wait(30) == 1
    assert "already runs" in up.output.read_text()
    assert up.is_well()


def test_a_taken_port_is_explained(up, begun, tmp_path):
    taken = up.card["api_url"].rsplit(":", 1)[1]
    second = begun(tmp_path / "data", arguments=("--api-port", taken))
    assert second.process.wait(30) == 1
    said = second.output.read_text()
    assert f"Port {taken} is taken" in said
    assert "--api-port 0" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["api", "worker", "temporal", "postgres"])
def test_a_process_that_is_killed_comes_back(up, name):
    before = up.pids
    os.kill(before[name], signal.SIGKILL)
    until(lambda: up.pids[name] != before[name] and is_alive(up.pids[name]))
    until(up.is_well)
    assert {other: pid for other, pid in up.pids.items() if other != name} == {
        other: pid for other, pid in before.items() if other != name
    }


def test_a_second_start_is_quick_and_finds_yesterdays_data(begun, tmp_path):
    first = begun(tmp_path / "data")
    first.wait_until_ready()
    card, pids = first.card, first.pids
    assert first.stop() == 0, first.output.read_text()
    assert not any(map(is_alive, pids.values()))
    assert not (tmp_path / "data" / "up.json").exists()
    clock = time.monotonic()
    second = begun(tmp_path / "data")
    second.wait_until_ready()
    # Ten seconds are the promise on an idle machine; the tests share theirs.
    assert time.monotonic() - clock < 30
    same = ("api_key", "workspace_slug", "workflow_id")
    assert [second.card[key] for key in same] == [card[key] for key in same]
    assert second.get("/v1/workflows").status_code == 200
    assert second.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_nothing_outlives_an_up_that_was_killed_and_the_next_one_starts(begun, tmp_path):
    first = begun(tmp_path / "data")
    first.wait_until_ready()
    pids = first.pids
    first.process.kill()
    first.process.wait()
    until(lambda: not any(map(is_alive, pids.values())))
    second = begun(tmp_path / "data")
    second.wait_until_ready()
    assert second.stop() == 0
