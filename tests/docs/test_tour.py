"""The README's five-minute tour does what it says, as it is printed."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.faults.machine import Machine

README = Path(__file__).parent.parent.parent / "README.md"
TOUR = re.compile(r"<!-- tour:.*?-->\n```sh\n(.*?)```", re.DOTALL)


def test_the_tour_of_the_readme_works_as_printed(tmp_path: Path):
    (script,) = TOUR.findall(README.read_text())
    machine = Machine(tmp_path / "data", arguments=("--no-demo",))
    try:
        machine.wait_until_up()
        environment = {**os.environ, "UP": str(machine.data_dir / "up.json"), "no_proxy": "*"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        steps, why, lead, events = documents(done.stdout)
        (run,) = machine.rows("SELECT status FROM workflow_executions")
        assert machine.mails() == []
    finally:
        code = machine.stop()
    assert code == 0
    assert run["status"] == "completed"
    assert {step["node_id"]: step["status"] for step in steps["data"]} == {
        "form": "completed",
        "has_phone": "completed",
        "call": "completed",
        "write": "skipped",
    }
    assert why["code"] == "completed"
    assert (lead["email"], lead["status"]) == ("grace@example.com", "CALL_BACK")
    assert [event["event_type"] for event in events["data"]] == ["STATUS_CHANGED", "FORM_SUBMITTED"]


def documents(printed: str) -> list[Any]:
    """Read the JSON documents that stand one after the other."""
    decoder, found = json.JSONDecoder(), []
    rest = printed.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        found.append(document)
        rest = rest[end:].strip()
    return found
