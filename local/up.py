"""`flowtrack up`: everything FlowTrack needs on one machine, kept alive and stopped cleanly."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from local import datadir, demo, mail, ports, postgres, temporal, webhooks
from local.supervisor import Service, StartError, Supervisor, once, tell

DATABASE = "flowtrack"
APP_ROLE = "flowtrack_app"
TASK_QUEUE = "flowtrack"
PORT_FLAGS = ("--api-port", "--temporal-port", "--temporal-ui-port", "--mail-port", "--smtp-port")
GIVES_WAY = 1
"""Taking a submission in is more urgent than carrying its run out, and the machine is one; but a run must not
stand still for as long as forms come densely (benchmarks/results.md)."""
API_RUNS = 8
"""Runs at once that begin where they are started, in the API: a single one never waits for a worker."""
SUPERVISED = ("api", "worker", "temporal", "postgres")


class UpError(Exception):
    """`flowtrack up` cannot start; the message says what to do."""


FAILURES = (
    UpError,
    StartError,
    datadir.InUseError,
    ports.PortTakenError,
    postgres.PostgresError,
    temporal.TemporalError,
)


@dataclass(frozen=True)
class Options:
    """What was asked for: where the data is, which ports (by their flags), and what the caller configured."""

    data_dir: Path
    ports: Mapping[str, int]
    plays_demo: bool = True
    given: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def variable(self, name: str) -> str | None:
        """Read a FLOWTRACK_ variable that the caller set; an empty one counts as unset."""
        return self.given.get(f"FLOWTRACK_{name}") or None


class Machine:
    """The processes of one `flowtrack up`, and how they find each other."""

    def __init__(self, options: Options, *, say: Callable[[str], None] = tell) -> None:
        self.options = options
        self.say = say
        self.directory = options.data_dir
        self.ports = ports.choose(self._needed_ports())
        self.cluster = postgres.Cluster(self.directory / "postgres")
        self.catcher = mail.Catcher(self.directory / "mail")
        self.supervisor = Supervisor(self.directory / "logs", say=say, changed=self._write_card)
        self._seeded: dict[str, object] = {}

    @property
    def has_own_postgres(self) -> bool:
        """Tell whether PostgreSQL runs here; FLOWTRACK_DATABASE_URL points elsewhere."""
        return self.options.variable("DATABASE_URL") is None

    @property
    def has_own_temporal(self) -> bool:
        """Tell whether Temporal runs here; FLOWTRACK_TEMPORAL_ADDRESS points elsewhere."""
        return self.options.variable("TEMPORAL_ADDRESS") is None

    @property
    def api_url(self) -> str:
        """Give the URL of the API."""
        return f"http://{ports.HOST}:{self.ports['--api-port']}"

    @property
    def temporal_address(self) -> str:
        """Give the address of Temporal."""
        return self.options.variable("TEMPORAL_ADDRESS") or f"{ports.HOST}:{self.ports['--temporal-port']}"

    @property
    def environment(self) -> dict[str, str]:
        """Build the children's configuration: what the caller set wins, but for the chosen API port."""
        own = {
            "ENV": "development",
            "TEMPORAL_ADDRESS": self.temporal_address,
            "PUBLIC_URL": self.api_url,
            "SMTP_URL": self.catcher.smtp_url,
            "MASTER_KEY": datadir.master_key(self.directory / "master.key"),
            "API_RUNS": str(API_RUNS),
        }
        if self.has_own_postgres:
            own["DATABASE_URL"] = self.cluster.url(database=DATABASE, user=APP_ROLE)
            own["MIGRATION_DATABASE_URL"] = self.cluster.url(database=DATABASE)
        if self.has_own_temporal:
            own["TEMPORAL_UI_URL"] = self.temporal_ui_url
        chosen = {name: value for name, value in own.items() if self.options.variable(name) is None}
        chosen |= {"API_HOST": ports.HOST, "API_PORT": str(self.ports["--api-port"])}
        return {**self.options.given, **{f"FLOWTRACK_{name}": value for name, value in chosen.items()}}

    @property
    def variables(self) -> dict[str, str]:
        """Give the children's FLOWTRACK_ variables, for `flowtrack doctor` beside them."""
        given = self.environment.items()
        return {name: value for name, value in given if name.startswith("FLOWTRACK_")}

    @property
    def temporal_ui_url(self) -> str:
        """Give the URL of the Temporal Web UI."""
        local_url = f"http://{ports.HOST}:{self.ports.get('--temporal-ui-port', 8233)}"
        return self.options.variable("TEMPORAL_UI_URL") or local_url

    @property
    def card(self) -> dict[str, object]:
        """Describe what runs, for people and for tests: the content of up.json."""
        environment = self.environment
        database = (
            environment.get("FLOWTRACK_MIGRATION_DATABASE_URL") or environment["FLOWTRACK_DATABASE_URL"]
        )
        return {
            "api_url": self.api_url,
            **self._seeded,
            "temporal_address": self.temporal_address,
            "temporal_ui_url": self.temporal_ui_url,
            "database_url": postgres.plain(database),
            "mail_url": self.catcher.url,
            "pids": {name: pid for name, pid in self.supervisor.pids.items() if name in SUPERVISED},
        }

    async def start(self) -> None:
        """Start everything; when this returns, all of it is ready and up.json is written."""
        self._card_path.unlink(missing_ok=True)
        await self.catcher.start(smtp_port=self.ports["--smtp-port"], http_port=self.ports["--mail-port"])
        datadir.keep(self.directory / datadir.ENVIRONMENT, self.variables)
        await together(self._prepare_database(), self._start_temporal())
        await together(self.supervisor.start(self._worker()), self.supervisor.start(self._api()))
        self._seeded = await demo.seed(
            self._verb,
            api_url=self.api_url,
            webhook_url=self.catcher.url + webhooks.PATH,
            card=self.demo_card,
        )
        self._write_card()

    async def stop(self) -> None:
        """Stop everything: the API, the worker, Temporal, PostgreSQL, and the mail catcher last."""
        self._card_path.unlink(missing_ok=True)
        (self.directory / datadir.ENVIRONMENT).unlink(missing_ok=True)
        await self.supervisor.stop()
        await self.catcher.stop()

    @property
    def demo_card(self) -> Path:
        """Name the file that keeps the demo's key and its endpoint's secret."""
        return self.directory / "demo.json"

    @property
    def _card_path(self) -> Path:
        return self.directory / "up.json"

    def _needed_ports(self) -> dict[str, int]:
        unused = () if self.has_own_temporal else ("--temporal-port", "--temporal-ui-port")
        return {flag: port for flag, port in self.options.ports.items() if flag not in unused}

    async def _prepare_database(self) -> None:
        if self.has_own_postgres:
            await self.supervisor.start(self._postgres())
            postgres.ensure_database(self.cluster.url(), DATABASE)
        await self._verb("migrate")

    async def _start_temporal(self) -> None:
        if not self.has_own_temporal:
            return
        await self.supervisor.start(self._temporal())
        await temporal.keep_closed_runs(self.temporal_address)

    def _postgres(self) -> Service:
        self.cluster.prepare()
        return Service(
            "postgres",
            self.cluster.command,
            self.cluster.is_ready,
            prepare=self.cluster.prepare,
            account=self.cluster.account,
            # Asked by SIGTERM, PostgreSQL would wait for every client to leave; SIGINT sends them off.
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
        )

    def _temporal(self) -> Service:
        command = temporal.command(
            port=self.ports["--temporal-port"],
            ui_port=self.ports["--temporal-ui-port"],
            database=self.directory / "temporal.sqlite",
            callbacks=[f"{ports.HOST}:{self.ports['--api-port']}"],
            codec=f"{self.api_url}/codec",
        )
        is_ready = partial(temporal.is_ready, self.temporal_address)
        return Service("temporal", command, is_ready, niceness=GIVES_WAY)

    def _worker(self) -> Service:
        polls = partial(temporal.has_pollers, self.temporal_address, TASK_QUEUE)
        # The grace is a little more than what each allows itself to finish what runs.
        return Service(
            "worker",
            verb("worker"),
            polls,
            environment=self.environment,
            interval=0.4,
            patience=120,
            grace=35,
            niceness=GIVES_WAY,
        )

    def _api(self) -> Service:
        answers = partial(is_answering, self.ports["--api-port"], "/readyz")
        return Service("api", verb("api"), answers, environment=self.environment, patience=120, grace=15)

    async def _verb(self, *arguments: str) -> str:
        return await once(verb(*arguments), environment=self.environment)

    def _write_card(self) -> None:
        if not self._seeded:
            return
        datadir.keep(self._card_path, self.card)


async def run(options: Options) -> None:
    """Bring the machine up, play the demo, and stay until asked to stop."""
    if options.variable("ENV") == "production":
        raise UpError(
            "`flowtrack up` is for development on one machine; FLOWTRACK_ENV=production forbids it."
        )
    # What lies there, Temporal's file and the mails, holds people's data: it is nobody else's to read.
    os.umask(0o077)
    with datadir.hold(options.data_dir):
        machine = Machine(options)
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            # Also where a script's `&` has SIGINT ignored: whoever sends it to this process means it.
            loop.add_signal_handler(number, asked.set)
        # nohup has the hang-up ignored, and means it.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, asked.set)
        try:
            async with until(asked):
                await machine.start()
                await _welcome(machine)
                await asyncio.Event().wait()
        finally:
            machine.say("Stopping …")
            await machine.stop()
            machine.say("Stopped; the data stays in " + str(options.data_dir))


async def _welcome(machine: Machine) -> None:
    if machine.options.plays_demo:
        try:
            await demo.play(machine.card, card=machine.demo_card, say=machine.say)
        except Exception as failure:
            # A tour that stumbles is no reason to take the house down: it is what one would look around in.
            machine.say(f"The demo did not go through: {failure}")
    machine.say(f"FlowTrack is up; everything about it: {machine.directory / 'up.json'}. Ctrl-C stops it.")


async def together(*tasks: Coroutine[None, None, None]) -> None:
    """Do things side by side; the first that fails stops the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


@asynccontextmanager
async def until(asked: asyncio.Event) -> AsyncIterator[None]:
    """Leave the block, whatever it waits for, as soon as the event is set."""
    inside = asyncio.current_task()
    if inside is None:
        raise RuntimeError("until() needs a task to leave")

    async def watch() -> None:
        await asked.wait()
        inside.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not asked.is_set():
            raise
        inside.uncancel()
    finally:
        watcher.cancel()


def verb(*arguments: str) -> list[str]:
    """Build the command that runs a verb of this installation."""
    return [sys.executable, "-m", "flowtrack", *arguments]


async def is_answering(port: int, path: str) -> bool:
    """Tell whether the path on the port is answered with 200."""
    try:
        reader, writer = await asyncio.open_connection(ports.HOST, port)
    except OSError:
        return False
    with suppress(OSError):
        request = f"GET {path} HTTP/1.1\r\nHost: {ports.HOST}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return b" 200 " in answer
    return False
