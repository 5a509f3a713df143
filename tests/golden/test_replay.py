"""What ran yesterday runs on today's code: every golden history is replayed under both sandbox policies."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

import worker
from tests.golden import corpus
from tests.golden.replay import replay, replayer
from tests.golden.scenes import SCENES

pytestmark = pytest.mark.anyio
PATHS = corpus.paths()
MACHINE = re.compile(r"/home/|/root/|/tmp/|/usr/|site-packages|127\.0\.0\.1|localhost|^\d+@")
PLANTABLE = ("workflows", "activities", "db", "worker.py", "settings.py", "tests/golden")


@pytest.fixture(scope="module", params=["production", "strict"])
def runner(request: pytest.FixtureRequest) -> Replayer:
    return replayer(strict=request.param == "strict")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
async def test_every_golden_history_replays(path: Path, runner: Replayer):
    await replay(path, runner)


async def test_an_update_that_was_accepted_with_more_than_is_read_today_replays(runner: Replayer):
    history = json.loads((corpus.FOLDER / "controlled.json").read_text())
    changed = 0
    for event in history["events"]:
        for payload in (
            event.get("workflowExecutionUpdateAcceptedEventAttributes", {})
            .get("acceptedRequest", {})
            .get("input", {})
            .get("args", {})
            .get("payloads", [])
        ):
            command = json.loads(base64.b64decode(payload["data"]))
            payload["data"] = base64.b64encode(json.dumps({**command, "reason": "x"}).encode()).decode()
            changed += 1
    assert changed
    await runner.replay_workflow(WorkflowHistory.from_json("execution", history))


@pytest.mark.parametrize("name", corpus.executable())
def test_every_executable_node_type_has_a_golden_history(name: str):
    path = corpus.FOLDER / f"{name.lower()}.json"
    assert path.exists(), f"Record one: `{corpus.COMMAND}`"
    assert name in corpus.steps(path).values()


def test_every_workflow_has_a_golden_history():
    recorded = {corpus.workflow_of(path) for path in PATHS}
    assert recorded == {workflow._Definition.must_from_class(each).name for each in worker.WORKFLOWS}


@pytest.mark.parametrize("name", SCENES)
def test_every_scene_is_recorded(name: str):
    assert name in {corpus.scene_of(path) for path in PATHS}, f"Record it: `{corpus.COMMAND}`"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_golden_history_tells_nothing_of_the_machine_it_was_recorded_on(path: Path):
    assert [text for text in corpus.texts(json.loads(path.read_text())) if MACHINE.search(text)] == []
    assert path.stat().st_size < 50_000


# ── the guard can fail


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy what a replay needs, to plant mistakes in."""
    for name in PLANTABLE:
        source, target = corpus.ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    return tmp_path


def plant(root: Path, file: str, old: str, new: str) -> None:
    """Change one place of a copied file."""
    text = (root / file).read_text()
    assert text.count(old) == 1
    (root / file).write_text(text.replace(old, new))


def replayed(root: Path, name: str) -> dict[str, str]:
    """Replay a history on the copied code, under each policy, in a process of its own."""
    command = [sys.executable, "-m", "tests.golden.replay", str(corpus.FOLDER / f"{name}.json")]
    # The copy must come before the project that is installed in the environment.
    environment = {**os.environ, "PYTHONPATH": str(root)}
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    # Temporal's core logs there, too.
    verdicts: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    return verdicts


def test_a_changed_command_is_refused(copied: Path):
    plant(copied, "workflows/execution.py", '                "begin",\n', '                "commence",\n')
    verdicts = replayed(copied, "quota_exceeded")
    assert verdicts["production"].startswith("NondeterminismError")
    assert verdicts["strict"].startswith("NondeterminismError")


def test_a_clock_read_in_a_pure_module_is_refused_by_the_strict_runner_alone(copied: Path):
    clock, state = "from datetime import datetime\n", "        self.state = state or WalkState()\n"
    plant(copied, "workflows/walk.py", "from workflows.frames", f"{clock}from workflows.frames")
    plant(copied, "workflows/walk.py", state, f"{state}        datetime.now()\n")
    verdicts = replayed(copied, "utility_log")
    assert verdicts["production"] == "fine"
    assert "Cannot access datetime.datetime.now.__call__ from inside a workflow" in verdicts["strict"]
