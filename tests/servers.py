"""The servers of one test run: started by the first test that needs one, shared, gone with the run.

Each is kept by a process of its own, which ends when the run's `alive` lock is free again. The kernel frees
it however pytest ends, so nothing outlives the run, and xdist's workers need not agree on who stops what.
"""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from local import ports, postgres, supervisor, temporal

VARIABLE = "FLOWTRACK_TEST_RUN"
KINDS = ("postgres", "temporal")
# Nothing here has to survive the machine's power.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_wal_size": "256MB",
}
MEMORY, ENOUGH = Path("/dev/shm"), 2 * 1024**3  # noqa: S108 - a directory of the run's own is made in it
"""A file system in memory, and the room that it must have: a database is copied there in a twentieth of the
time, and each test has one of its own."""


def begin() -> IO[str] | None:
    """Make the run's directory and hold its lock; None in a worker, whose controller did so."""
    if VARIABLE in os.environ:
        return None
    run = Path(tempfile.mkdtemp(prefix="flowtrack-tests-", dir=_roomy()))
    os.environ[VARIABLE] = str(run)
    alive = (run / "alive").open("w")
    fcntl.flock(alive, fcntl.LOCK_EX)
    return alive


def _roomy() -> Path | None:
    """Choose memory where there is enough of it, else what the system says."""
    is_there = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH
    return MEMORY if is_there and "TMPDIR" not in os.environ else None


def finish(alive: IO[str]) -> None:
    """Let the servers go and wait until they are gone."""
    run = Path(os.environ.pop(VARIABLE))
    alive.close()
    deadline = time.monotonic() + 20
    while any((run / f"{kind}.json").exists() for kind in KINDS) and time.monotonic() < deadline:
        time.sleep(0.02)
    shutil.rmtree(run, ignore_errors=True)


@contextmanager
def once(what: str) -> Iterator[Path]:
    """Hold the run's lock on one thing; yield the file that says, when it exists, that the thing is done."""
    run = Path(os.environ[VARIABLE])
    with (run / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield run / f"{what}.json"


def address(kind: str) -> str:
    """Give the address of the run's server of this kind ("postgres", "temporal"), starting it if need be."""
    with once(kind) as card:
        if not card.exists():
            _start(kind, card)
        return str(json.loads(card.read_text())["address"])


def _start(kind: str, card: Path) -> None:
    output = card.with_suffix(".out")
    with output.open("w") as log:
        command = [sys.executable, "-m", "tests.servers", kind, str(card)]
        root = Path(__file__).parent.parent
        keeper = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, start_new_session=True)
    while not card.exists():
        if keeper.poll() is not None:
            raise RuntimeError(f"The tests' {kind} did not start:\n{output.read_text()}")
        time.sleep(0.02)
    # Its keeper ends only after this process: to wait for it is the system's work, not ours.
    keeper.returncode = 0


def _service(kind: str, run: Path) -> tuple[supervisor.Service, str]:
    if kind == "postgres":
        cluster = postgres.Cluster(run / "postgres", options=FAST)
        cluster.prepare()
        service = supervisor.Service(
            kind, cluster.command, cluster.is_ready, prepare=cluster.prepare, account=cluster.account
        )
        return service, cluster.url()
    port = ports.free()
    where = f"{ports.HOST}:{port}"
    command = temporal.command(port=port, ui_port=None, database=None, callbacks=[f"{ports.HOST}:*"])
    # The server would put the deletion of a history off for half a minute.
    command += ["--dynamic-config-value", "history.transferProcessorEnsureCloseBeforeDelete=false"]
    return supervisor.Service(kind, command, lambda: temporal.is_ready(where)), where


async def _serve(kind: str, card: Path) -> None:
    service, where = _service(kind, card.parent)
    keeper = supervisor.Supervisor(card.parent / "logs")
    await keeper.start(service)
    _publish(card, where)
    await asyncio.to_thread(_wait_for_the_end, card.parent / "alive")
    await keeper.stop()


def _publish(card: Path, where: str) -> None:
    draft = card.with_suffix(".draft")
    draft.write_text(json.dumps({"address": where}))
    draft.rename(card)


def _wait_for_the_end(alive: Path) -> None:
    with alive.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2])))
    Path(sys.argv[2]).unlink()
    # A pytest that was killed tidies nothing: the last server does.
    if not any((Path(sys.argv[2]).parent / f"{kind}.json").exists() for kind in KINDS):
        shutil.rmtree(Path(sys.argv[2]).parent, ignore_errors=True)
