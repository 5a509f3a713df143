"""A real `flowtrack up`, its processes killed, frozen and doubled, and what it takes to watch it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from local import ports, temporal
from tests.e2e.house import EMAIL, ENDED
from tests.faults.graphs import EVENT

PORTS = ("--api-port", "--temporal-port", "--temporal-ui-port", "--mail-port", "--smtp-port")
STARTED = 120.0
# One for all calls: to make a client costs more than to use it.
HTTP = httpx.Client(trust_env=False, verify=False, timeout=30)  # noqa: S501 - loopback, in the clear


@dataclass
class Posted:
    """What the clients know: every form they sent, and what they were told."""

    tried: set[str] = field(default_factory=set)
    accepted: dict[str, str] = field(default_factory=dict)
    """The execution that answered each address."""
    started: set[str] = field(default_factory=set)
    """Executions that were started without a form."""


@dataclass(frozen=True)
class Answer:
    """How one form post was answered, and how fast."""

    status: int | None
    seconds: float
    execution_id: str | None


class Machine:
    """One data directory and the `flowtrack up` on it."""

    def __init__(
        self,
        data_dir: Path,
        *,
        arguments: Sequence[str] = (),
        python: Sequence[str] = (sys.executable,),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.output = data_dir.with_suffix(".out")
        self.posted = Posted()
        self.rough: set[str] = set()
        """Workflows whose runs were hit in the middle of an effect: a webhook may have arrived twice, a mail
        may be told as unknown."""
        self.rebuilt: set[tuple[Any, ...]] = set()
        """Runs whose rows were compared with their history already."""
        self.companions: list[subprocess.Popen[bytes]] = []
        flags = [flag for port in PORTS if port not in arguments for flag in (port, "0")]
        command = [*python, "-m", "flowtrack", "up", "--data-dir", str(data_dir), *flags, *arguments]
        own = {name: value for name, value in os.environ.items() if not name.startswith("FLOWTRACK_")}
        # What is done to the worker shall hit runs; those of the API's own have tests of their own.
        own["FLOWTRACK_API_RUNS"] = "0"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd="/" if variables else None,
                env={**own, **(variables or {})},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    # ── what it says of itself

    @property
    def card(self) -> dict[str, Any]:
        """Read up.json."""
        card: dict[str, Any] = json.loads((self.data_dir / "up.json").read_text())
        return card

    @property
    def pids(self) -> dict[str, int]:
        """Give the present process ids."""
        pids: dict[str, int] = self.card["pids"]
        return pids

    @property
    def said(self) -> str:
        """Give what it printed."""
        return self.output.read_text(errors="replace")

    def environment(self) -> dict[str, str]:
        """Read the configuration that the children were given."""
        given = Path(f"/proc/{self.pids['api']}/environ").read_bytes().split(b"\0")
        return dict(entry.decode().split("=", 1) for entry in given if b"=" in entry)

    def is_up(self) -> bool:
        """Tell whether this start has written its card."""
        with suppress(FileNotFoundError):
            return (self.data_dir / "up.json").stat().st_mtime >= self._begun and self._lives()
        return False

    def _lives(self) -> bool:
        return all(map(is_alive, self.pids.values()))

    @property
    def _begun(self) -> float:
        started = Path(f"/proc/{self.process.pid}")
        return started.stat().st_mtime if started.exists() else 0.0

    # ── its processes

    def wait_until_up(self) -> None:
        """Wait for up.json."""
        until(lambda: self.is_up() or self.process.poll() is not None, "up", seconds=STARTED)
        assert self.process.poll() is None, self.said

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to stop as Ctrl-C does, and whatever was started beside it; return its exit code."""
        for companion in self.companions:
            companion.kill()
            companion.wait(10)
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            # Its children die with it: nothing of it may burden the tests that follow.
            self.process.kill()
            raise

    def kill(self, name: str) -> int:
        """Kill -9 one process; return the id it had."""
        return self._signal(name, signal.SIGKILL)

    def wait_until_back(self, name: str, killed: int) -> None:
        """Wait until a killed process has a successor and everything can be reached."""
        until(lambda: self.pids[name] != killed and is_alive(self.pids[name]), f"a new {name}", seconds=60)
        until(self.is_well, f"{name} is back", seconds=60)

    def freeze(self, name: str) -> None:
        """Stop a process where it stands: to others it is away, but nothing restarts it."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen process go on."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> int:
        pid = self.pids[name]
        # The card names a dead process until it has a successor, and ids are given out again.
        if not self.is_its_own(pid):
            raise ProcessLookupError(f"{name} is down")
        os.kill(pid, number)
        return pid

    def is_its_own(self, pid: int) -> bool:
        """Tell whether a process runs and was started by this `flowtrack up`."""
        return is_alive(pid) and parent_of(pid) == self.process.pid

    def another(self, verb: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a second worker or API beside the first, configured alike."""
        log = (self.data_dir / "logs" / f"second-{verb}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flowtrack", verb],
                env={**self.environment(), **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.companions.append(process)
        return process

    def another_api(self) -> tuple[subprocess.Popen[bytes], str]:
        """Start a second API on a port of its own; return its URL too."""
        port = str(ports.free())
        process, url = self.another("api", FLOWTRACK_API_PORT=port), f"http://{ports.HOST}:{port}"
        until(lambda: self.is_well(url), "the second API", seconds=60)
        return process, url

    def dismiss(self, companion: subprocess.Popen[bytes]) -> None:
        """Kill what was started beside the machine."""
        companion.kill()
        companion.wait(10)
        self.companions.remove(companion)

    # ── its API

    def call(
        self, method: str, path: str, body: Any = None, *, api: str | None = None, **headers: str
    ) -> Any:
        """Call the API, again while it is away; return the answer's JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answers: list[httpx.Response] = []

        def answered() -> bool:
            with suppress(httpx.TransportError):
                answers.append(self._send(method, (api or self.card["api_url"]) + path, body, named))
            return bool(answers) and answers[-1].status_code != 503

        until(answered, f"an answer to {method} {path}", seconds=60)
        answer = answers[-1]
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() | {"etag": answer.headers.get("ETag")} if answer.content else None

    def _send(self, method: str, url: str, body: Any, headers: dict[str, str]) -> httpx.Response:
        authorization = {"Authorization": f"Bearer {self.card['api_key']}"}
        return HTTP.request(method, url, json=body, headers=authorization | headers)

    def is_well(self, api: str | None = None) -> bool:
        """Tell whether the API answers and reaches both servers."""
        try:
            return bool(
                self._send("GET", (api or self.card["api_url"]) + "/readyz", None, {}).json()["status"]
                == "ready"
            )
        except (httpx.HTTPError, KeyError, ValueError):
            return False

    def workflow(
        self, name: str, graph: dict[str, Any], *, fields: Sequence[dict[str, Any]] = (EMAIL,)
    ) -> dict[str, Any]:
        """Make and publish a workflow whose form asks for an address."""
        made = self.call("POST", "/v1/workflows", {"name": name})
        path = f"/v1/workflows/{made['id']}"
        for field_ in fields:
            self.call("POST", f"{path}/form-fields", field_)
        etag = self.call("GET", f"{path}/graph")["etag"]
        self.call("PUT", f"{path}/graph", graph, If_Match=etag)
        published: dict[str, Any] = self.call("POST", f"{path}/publish")
        return published

    def submit(
        self,
        workflow: Mapping[str, Any],
        email: str,
        *,
        api: str | None = None,
        answers: Mapping[str, str] | None = None,
        **headers: str,
    ) -> Answer:
        """Submit a form once, as a stranger would, and note what was told."""
        url = f"{api or self.card['api_url']}/f/{self.card['workspace_slug']}/{workflow['slug']}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.posted.tried.add(email)
        begun = time.monotonic()
        try:
            answer = HTTP.post(url, json={"email": email, **(answers or {})}, headers=named)
        except httpx.TransportError:
            return Answer(None, time.monotonic() - begun, None)
        taken = time.monotonic() - begun
        if not answer.is_success:
            return Answer(answer.status_code, taken, None)
        execution_id: str = answer.json()["execution_id"]
        self.posted.accepted[email] = execution_id
        return Answer(answer.status_code, taken, execution_id)

    def accepted(self, workflow: Mapping[str, Any], email: str) -> str:
        """Submit a form that is to be accepted; return its execution."""
        answer = self.submit(workflow, email)
        assert answer.execution_id is not None, answer
        return answer.execution_id

    def flood(self, workflow: Mapping[str, Any], emails: Sequence[str], *, at_once: int = 10) -> list[Answer]:
        """Submit many forms, some at once."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda email: self.submit(workflow, email), emails))

    def run(self, execution_id: str) -> dict[str, Any]:
        """Read an execution."""
        run: dict[str, Any] = self.call("GET", f"/v1/executions/{execution_id}")
        return run

    def steps(self, execution_id: str) -> dict[str, dict[str, Any]]:
        """Read an execution's steps by node id."""
        listed = self.call("GET", f"/v1/executions/{execution_id}/steps?limit=100")["data"]
        return {step["node_id"]: step for step in listed}

    def ended(self, *execution_ids: str, seconds: float = 90) -> list[dict[str, Any]]:
        """Wait until the rows say that executions have ended; return them as the API shows them."""
        count = "SELECT count(*) FROM workflow_executions WHERE id = ANY(%s) AND status = ANY(%s)"

        def all_have() -> bool:
            with suppress(psycopg.OperationalError):
                return bool(
                    self.rows(count, list(execution_ids), list(ENDED))[0]["count"] == len(execution_ids)
                )
            return False

        until(all_have, f"{len(execution_ids)} runs end", seconds=seconds)
        return [self.run(execution_id) for execution_id in execution_ids]

    def completed(self, *execution_ids: str, seconds: float = 90) -> list[dict[str, Any]]:
        """Wait until executions have ended; show what is wrong with those that did not complete."""
        runs = self.ended(*execution_ids, seconds=seconds)
        wrong = [(run, self.steps(run["id"])) for run in runs if run["status"] != "completed"]
        assert wrong == []
        return runs

    def waits(self, execution_id: str, *, seconds: float = 30) -> None:
        """Wait until an execution only sleeps."""
        until(lambda: self.run(execution_id)["status"] == "waiting", f"{execution_id} waits", seconds=seconds)

    # ── what it did to the world

    def mails(self) -> list[dict[str, Any]]:
        """Read the caught mails."""
        caught: list[dict[str, Any]] = HTTP.get(f"{self.card['mail_url']}/messages").json()
        return caught

    def webhooks(self) -> list[dict[str, Any]]:
        """Read the webhooks that arrived."""
        arrived: list[dict[str, Any]] = HTTP.get(f"{self.card['mail_url']}/webhooks").json()
        return arrived

    def subscribe(self) -> None:
        """Have the tests' event sent to the inbox."""
        url = f"{self.card['mail_url']}/webhooks"
        self.call("POST", "/v1/webhook-endpoints", {"url": url, "subscribed_events": [EVENT]})

    # ── below the API

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Read rows as the superuser, of whichever workspace; again while the database is away."""
        found: list[list[dict[str, Any]]] = []

        def read() -> bool:
            with suppress(psycopg.OperationalError):
                found.append(self._rows(statement, values))
            return bool(found)

        until(read, "the database answers", seconds=60)
        return found[0]

    def _rows(self, statement: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        with psycopg.connect(self.card["database_url"], row_factory=dict_row, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def temporal(self, *arguments: str) -> Any:
        """Run a `temporal` command as an operator would; return its JSON."""
        command = [
            temporal.executable(),
            *arguments,
            "--address",
            self.card["temporal_address"],
            "-o",
            "json",
        ]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout) if done.stdout.strip() else None


def until(condition: Callable[[], Any], what: str, *, seconds: float = 30) -> None:
    """Look again until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int | None:
    """Find a process's parent."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return None


def family(pid: int) -> set[int]:
    """Find a process and all its descendants."""
    running = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    parents = {each: parent_of(each) for each in running}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found
