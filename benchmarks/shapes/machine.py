"""The processes of the benchmark: two Temporal servers, FlowTrack, the hand-written shapes."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

from local import demo, ports, temporal
from shapes.acts import TABLES

PORTS = ("--api-port", "--temporal-port", "--temporal-ui-port", "--mail-port")
TICKS = os.sysconf("SC_CLK_TCK")
SERVED = re.compile(r"^service_requests\{(?P<labels>[^}]*)\} (?P<count>\S+)$", re.MULTILINE)
COUNTED = re.compile(r'operation="((?:Respond|Start)[^"]+)"')
UPDATES = re.compile(
    r'^persistence_requests\{[^}]*operation="UpdateWorkflowExecution"[^}]*\} (\S+)$', re.MULTILINE
)
Process = subprocess.Popen[bytes]
WAY = ("form", "condition_check_budget", "qualify", "send_high_value_email", "tell_crm")
"""Of the demo's graph the nodes that do what the hand-written shapes do, one after the other."""


@dataclass
class Machine:
    """Everything that runs."""

    card: dict[str, Any]
    up: Process
    lean: Process
    tutorial: Process
    api: Process
    worker: Process
    metrics: dict[str, str]

    def cpu(self, system: str) -> float:
        """Sum the CPU seconds of all that one system needs: PostgreSQL and the mail catcher are shared."""
        shared = cpu_of(self.up.pid)
        if system == "flowtrack":
            return shared + cpu_of(self.lean.pid)
        idle = sum(cpu_of(self.card["pids"][name]) for name in ("api", "worker"))
        server = self.lean if system == "lean" else self.tutorial
        return shared - idle + cpu_of(server.pid) + cpu_of(self.api.pid) + cpu_of(self.worker.pid)

    def calls(self, system: str) -> float:
        """Count the server's writes of runs and the calls that start or answer something."""
        with urllib.request.urlopen(self.metrics["tutorial" if system == "tutorial" else "lean"]) as page:
            text = page.read().decode()
        served = (match for match in SERVED.finditer(text) if COUNTED.search(match["labels"]))
        return sum(float(match["count"]) for match in served) + sum(map(float, UPDATES.findall(text)))

    def stop(self) -> None:
        """End everything."""
        for process in (self.api, self.worker, self.up, self.lean, self.tutorial):
            process.terminate()
        for process in (self.api, self.worker, self.up, self.lean, self.tutorial):
            process.wait(60)


def start(directory: Path) -> Machine:
    """Start it all on free ports."""
    lean_port, tutorial_port, lean_metrics, tutorial_metrics = (ports.free() for _ in range(4))
    own = temporal.command(
        port=lean_port, ui_port=None, database=directory / "lean.db", callbacks=[f"{ports.HOST}:*"]
    )
    lean = process([*own, "--metrics-port", str(lean_metrics)])
    wait_for(lean_port)
    plain = [temporal.executable(), "server", "start-dev", "--headless", "--port", str(tutorial_port)]
    plain += ["--log-level", "warn", "--db-filename", str(directory / "tutorial.db")]
    tutorial = process([*plain, "--metrics-port", str(tutorial_metrics)])
    wait_for(tutorial_port)
    address = f"{ports.HOST}:{lean_port}"
    up, card = flowtrack(directory, address)
    with psycopg.connect(card["database_url"], autocommit=True) as connection:
        connection.execute(TABLES)
    card |= {"lean": address, "tutorial": f"{ports.HOST}:{tutorial_port}", "hand_port": ports.free()}
    card["hook_url"] = f"{card['mail_url']}/webhooks"
    hand = directory / "hand.json"
    hand.write_text(json.dumps({**card, "api_port": card["hand_port"]}))
    serve, here = [sys.executable, "-m", "shapes.serve"], str(Path(__file__).parent.parent)
    api, worker = (process([*serve, which, str(hand)], PYTHONPATH=here) for which in ("api", "worker"))
    wait_for(card["hand_port"])
    return Machine(
        card,
        up,
        lean,
        tutorial,
        api,
        worker,
        {
            "lean": f"http://{ports.HOST}:{lean_metrics}/metrics",
            "tutorial": f"http://{ports.HOST}:{tutorial_metrics}/metrics",
        },
    )


def flowtrack(directory: Path, address: str) -> tuple[Process, dict[str, Any]]:
    """Start `flowtrack up` on that Temporal with the workload published; return it and its card."""
    smtp_port = ports.free()
    free = [word for flag in PORTS if "temporal" not in flag for word in (flag, "0")]
    where = ["--data-dir", str(directory), "--smtp-port", str(smtp_port), *free]
    command = [sys.executable, "-m", "flowtrack", "up", "--no-demo", *where]
    up = process(command, FLOWTRACK_TEMPORAL_ADDRESS=address)
    path = directory / "up.json"
    while not path.exists():
        if up.poll() is not None:
            raise SystemExit("`flowtrack up` ended; see its logs")
        time.sleep(0.1)
    card = json.loads(path.read_text())
    return up, {**card, "form_url": _workload(card), "smtp_port": smtp_port}


def _workload(card: dict[str, Any]) -> str:
    """Publish the workload and return its form's URL; the demo has given the endpoint."""
    api = demo.API(card["api_url"], card["api_key"])
    workflow = api.call("POST", "/v1/workflows", {"name": "Intake"})
    path = f"/v1/workflows/{workflow['id']}"
    for field in demo.FIELDS:
        api.call("POST", f"{path}/form-fields", field)
    nodes = {node["id"]: node for node in demo.GRAPH["nodes"]}
    known = {(edge["source"], edge["target"]): edge for edge in demo.GRAPH["edges"]}
    edges = [
        known.get(way, {"id": "-".join(way), "source": way[0], "target": way[1], "data": {}})
        for way in pairwise(WAY)
    ]
    graph = {**demo.GRAPH, "nodes": [nodes[name] for name in WAY], "edges": edges}
    etag = api.send("GET", f"{path}/graph")[1]["ETag"]
    api.call("PUT", f"{path}/graph", graph, If_Match=etag)
    published = api.call("POST", f"{path}/publish")
    return f"{api.url}/f/{card['workspace_slug']}/{published['slug']}"


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((ports.HOST, port), timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port}")


def process(command: list[str], **variables: str) -> Process:
    """Start a process that says nothing."""
    # An installed FlowTrack has its bytecode; one that may not write it would compile for every run.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": "/tmp/flowtrack-bench-pyc", **variables}
    # Temporal's server complains at length when it is ended.
    errors = subprocess.DEVNULL if command[0] == temporal.executable() else None
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)


def cpu_of(pid: int) -> float:
    """Sum the CPU seconds of a process and all its descendants, the ended ones included."""
    parents: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        child = int(entry.parent.name)
        parents.setdefault(int(fields[1]), []).append(child)
        seconds[child] = sum(map(int, fields[11:15])) / TICKS
    family, total = [pid], 0.0
    while family:
        member = family.pop()
        total += seconds.get(member, 0.0)
        family += parents.get(member, [])
    return total
