"""Child processes kept alive: started in order, restarted when they end, stopped in reverse order."""

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

PR_SET_PDEATHSIG = 1
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
# A child that ran this long has recovered: its next end is a new story.
STEADY_AFTER = 30.0
LARGEST_LOG = 20 * 1024 * 1024
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def tell(line: str) -> None:
    """Print a line at once; that nobody reads any more stops nothing."""
    with suppress(OSError, ValueError):
        print(line, flush=True)


class StartError(Exception):
    """A child ended, or did not become ready in time; the message ends with its last log lines."""


class Account(Protocol):
    """The system account that a child runs as."""

    @property
    def uid(self) -> int:
        """Give the user id."""

    @property
    def gid(self) -> int:
        """Give the group id."""


@dataclass(frozen=True)
class Service:
    """One child: how it is started, when it counts as ready, how it is asked to stop."""

    name: str
    command: Sequence[str]
    is_ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    prepare: Callable[[], None] = lambda: None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    # How long to wait between two looks; a look that starts a process wants a longer one.
    interval: float = 0.05
    patience: float = 60.0
    grace: float = 10.0
    # How far it gives way to the others on a machine that is short of CPU, as `nice` counts.
    niceness: int = 0


@dataclass
class Child:
    """A running service with its present process."""

    service: Service
    process: Process
    started_at: float
    pause: float = FIRST_PAUSE
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Keep services running until told to stop."""

    def __init__(
        self, logs: Path, *, say: Callable[[str], None] = tell, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._logs = logs
        self._say = say
        self._changed = changed
        self._order: list[str] = []
        self._children: dict[str, Child] = {}
        self._stopping = False
        logs.mkdir(parents=True, exist_ok=True)

    @property
    def pids(self) -> dict[str, int]:
        """Give the present process id of each service."""
        return {name: child.process.pid for name, child in self._children.items()}

    def log(self, name: str) -> Path:
        """Name the file that a service's output goes to."""
        return self._logs / f"{name}.log"

    async def start(self, service: Service) -> None:
        """Start a service, wait until it is ready, and keep it from then on."""
        # Noted at once: services that start side by side stop in the order they were asked for.
        self._order.append(service.name)
        child = Child(service, await self._spawn(service), _now())
        self._children[service.name] = child
        try:
            await self._until_ready(child)
        except BaseException:
            await self._end(self._children.pop(service.name))
            raise
        child.keeper = asyncio.create_task(self._keep(child), name=f"keep {service.name}")

    async def stop(self) -> None:
        """Stop every service, the last started first; what ignores its signal is killed after its grace."""
        self._stopping = True
        for name in reversed(self._order):
            if name in self._children:
                await self._end(self._children.pop(name))

    async def _spawn(self, service: Service) -> Process:
        service.prepare()
        log = self.log(service.name)
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_suffix(".log.1"))
        account = service.account
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *service.command,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                cwd="/" if account is not None else None,
                env=dict(service.environment),
                # Ctrl-C at the terminal reaches the supervisor alone, which then stops things in order.
                process_group=0,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
                preexec_fn=_settle(service.orphan_signal, service.niceness),
            )

    async def _until_ready(self, child: Child) -> None:
        service = child.service
        deadline = _now() + service.patience
        while not await service.is_ready():
            if child.process.returncode is not None:
                raise StartError(self._complaint(child, f"ended with {child.process.returncode}"))
            if _now() > deadline:
                raise StartError(self._complaint(child, f"was not ready after {service.patience:.0f} s"))
            await asyncio.sleep(service.interval)

    async def _keep(self, child: Child) -> None:
        """Wait for the process to end, then start it again, more slowly the sooner it ended."""
        while True:
            code = await child.process.wait()
            if self._stopping:
                return
            _kill_group(child.process.pid)
            if _now() - child.started_at > STEADY_AFTER:
                child.pause = FIRST_PAUSE
            name = child.service.name
            self._say(f"{name} ended ({_reason(code)}); starting it again, its log: {self.log(name)}")
            await asyncio.sleep(child.pause)
            child.pause = min(child.pause * 2, LONGEST_PAUSE)
            await self._restart(child)

    async def _restart(self, child: Child) -> None:
        try:
            child.process = await self._spawn(child.service)
            child.started_at = _now()
            self._changed()
            await self._until_ready(child)
        except Exception as failure:
            # Keeping on is what a supervisor is for: the failure is told, and the next round tries again.
            self._say(f"{child.service.name} did not come back yet: {failure}")
            await self._terminate(child)
            return
        self._say(f"{child.service.name} is back (process {child.process.pid})")

    async def _end(self, child: Child) -> None:
        if child.keeper is not None:
            child.keeper.cancel()
            with suppress(asyncio.CancelledError):
                await child.keeper
        await self._terminate(child)

    async def _terminate(self, child: Child) -> None:
        process, service = child.process, child.service
        with suppress(ProcessLookupError):
            process.send_signal(service.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), service.grace)
        except TimeoutError:
            self._say(f"{service.name} did not stop within {service.grace:.0f} s; killed")
        _kill_group(process.pid)
        await process.wait()

    def _complaint(self, child: Child, what: str) -> str:
        log = self.log(child.service.name)
        tail = log.read_text(errors="replace").splitlines()[-15:]
        return "\n".join([f"{child.service.name} {what}. The end of {log}:", *(f"  {line}" for line in tail)])


async def once(command: Sequence[str], *, environment: Mapping[str, str]) -> str:
    """Run a command to its end and return what it printed; its failure carries what it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=dict(environment),
        process_group=0,
        preexec_fn=_settle(signal.SIGKILL),
    )
    try:
        printed, complaint = await process.communicate()
    except BaseException:
        _kill_group(process.pid)
        raise
    if process.returncode != 0:
        said = complaint.decode(errors="replace").strip()
        raise StartError(f"`{' '.join(command[-2:])}` failed ({process.returncode}):\n{said}")
    return printed.decode()


def _settle(orphan_signal: signal.Signals, niceness: int = 0) -> Callable[[], None]:
    """Give the child its priority, and have the kernel signal it when the supervisor dies by kill -9."""
    parent, prctl = os.getpid(), None if LIBC is None else LIBC.prctl

    def settle() -> None:
        os.nice(niceness)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return settle


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _reason(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _now() -> float:
    return asyncio.get_running_loop().time()
