"""Builds of workers rolled out side by side, and a worker that is asked to stop in the middle of a step."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.e2e.graphs import chain, node
from tests.faults import graphs
from tests.faults.machine import Machine, until


@pytest.fixture
def builds(machine: Machine) -> Iterator[Machine]:
    """Give the machine; afterwards new runs go to its own worker again, which has no build."""
    try:
        yield machine
    finally:
        deploy(machine, "")


def deploy(machine: Machine, build: str) -> None:
    """Send new runs to a build, as an operator would."""
    done = run(machine, "deploy", build)
    assert done.returncode == 0, done.stderr


def run(machine: Machine, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a `flowtrack` command beside the machine."""
    command = [sys.executable, "-m", "flowtrack", *arguments]
    environment = {**machine.environment(), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)


def workers_of(machine: Machine, execution_id: str) -> set[str]:
    """Name the builds that carried a run's workflow tasks out; a worker without one is ''."""
    shown = machine.temporal("workflow", "show", "--workflow-id", f"execution-{execution_id}")
    done = [event.get("workflowTaskCompletedEventAttributes") for event in shown["events"]]
    return {each.get("deploymentVersion", {}).get("buildId", "") for each in done if each is not None}


def test_runs_stay_on_their_build_and_new_ones_go_to_the_current_one(builds: Machine):
    machine = builds
    workflow = machine.workflow("Rolled out", graphs.resting(1, "PT8S"))
    before = machine.accepted(workflow, "unversioned@example.com")
    machine.another("worker", FLOWTRACK_BUILD_ID="one")
    deploy(machine, "one")
    first = machine.accepted(workflow, "one@example.com")
    machine.waits(first)

    machine.another("worker", FLOWTRACK_BUILD_ID="two")
    deploy(machine, "two")
    second = machine.accepted(workflow, "two@example.com")
    machine.waits(second)
    told = run(machine, "doctor", FLOWTRACK_BUILD_ID="two").stdout
    wrong = run(machine, "doctor", FLOWTRACK_BUILD_ID="one")
    deploy(machine, "")
    last = machine.accepted(workflow, "again@example.com")

    machine.completed(before, first, second, last)
    assert workers_of(machine, first) == {"one"}
    assert workers_of(machine, second) == {"two"}
    assert workers_of(machine, last) == {""}
    assert "build two is current; one draining" in told
    assert wrong.returncode == 1
    assert "run `flowtrack deploy one`" in wrong.stdout


def test_a_build_that_nobody_runs_does_not_become_current(machine: Machine):
    refused = run(machine, "deploy", "never-built", "--patience", "1")
    assert refused.returncode == 1
    assert "FLOWTRACK_BUILD_ID=never-built" in refused.stderr


def test_a_worker_that_is_asked_to_stop_finishes_the_step_it_is_in(builds: Machine):
    machine = builds
    with slow_target() as target:
        call = node("call", "ACTION_HTTP_REQUEST", "Call", method="POST", url=target.url)
        workflow = machine.workflow("Drained", chain(graphs.FORM, call, *graphs.STEPS))
        worker = machine.another("worker", FLOWTRACK_BUILD_ID="drained")
        deploy(machine, "drained")
        execution_id = machine.accepted(workflow, "drained@example.com")
        until(lambda: target.asked, "the request arrives")

        worker.send_signal(signal.SIGTERM)
        threading.Timer(3, target.answer.set).start()

        assert worker.wait(30) == 0
        machine.companions.remove(worker)
        machine.another("worker", FLOWTRACK_BUILD_ID="drained")
        machine.completed(execution_id)
    step = machine.steps(execution_id)["call"]
    assert (step["attempt"], target.asked) == (1, 1)
    log = (machine.data_dir / "logs" / "second-worker.log").read_text()
    stopped = [json.loads(line) for line in log.splitlines() if "worker stopped" in line]
    assert stopped[-1]["left_behind"] == 0


class Target(ThreadingHTTPServer):
    """Answers when it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = 0
        self.answer = threading.Event()

    @property
    def url(self) -> str:
        """Say where it listens."""
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """Counts, waits, answers."""

    server: Target

    def do_POST(self) -> None:
        """Take the request."""
        self.server.asked += 1
        self.server.answer.wait(20)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@contextmanager
def slow_target() -> Iterator[Target]:
    """Listen in a thread."""
    with Target() as target:
        thread = threading.Thread(target=target.serve_forever, daemon=True)
        thread.start()
        yield target
        target.shutdown()
