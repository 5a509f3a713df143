"""`flowtrack up` as an ordinary user: started, stopped by Ctrl-C without a trace, started again."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.machine import Machine, family, is_alive

PACKAGES = Path(pytest.__file__).parent.parent
ROOT = Path(__file__).parent.parent.parent
# It must be able to start itself: to get in once is no proof of that.
ASK = """
import os, subprocess, sys
subprocess.run([sys.executable, "-c", "import flowtrack, local.up, psycopg"], check=True)
print(os.geteuid())
"""


@dataclass(frozen=True)
class User:
    """A way to run Python as somebody who is not root."""

    python: tuple[str, ...]
    variables: dict[str, str]
    owner: int


def ways() -> Iterator[User]:
    """List the ways to be an ordinary user here, the plainest first."""
    if os.geteuid() != 0:
        yield User((sys.executable,), {}, os.geteuid())
        return
    nobody = pwd.getpwnam("nobody").pw_uid
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    variables = {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{PACKAGES}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    become = ("setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups", "--inh-caps=-all")
    # The interpreter of these tests may lie in root's own home: then the system's will do.
    for python in (sys.executable, shutil.which(name, path="/usr/bin:/usr/local/bin") or sys.executable):
        yield User((*become, python), variables, nobody)
    # A user namespace, in which root's files belong to an ordinary user.
    yield User(("unshare", "--user", "--map-user=65534", sys.executable), variables, 0)


def is_possible(user: User) -> bool:
    """Tell whether this way works here."""
    command: Sequence[str] = [*user.python, "-c", ASK]
    try:
        done = subprocess.run(
            command, env={**os.environ, **user.variables}, cwd="/", capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0 and int(done.stdout) != 0


def test_an_ordinary_user_starts_it_stops_it_by_ctrl_c_and_finds_the_data_again():
    user = next(filter(is_possible, ways()), None)
    if user is None:
        pytest.skip("there is no way to run Python as an ordinary user here")
    # pytest's own directories are closed to other users.
    home = Path(tempfile.mkdtemp(prefix="flowtrack-user-"))
    os.chown(home, user.owner, -1)
    try:
        starts_and_stops(home / "data", user)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def starts_and_stops(data: Path, user: User) -> None:
    """Start it twice."""
    variables = {**user.variables, "HOME": str(data.parent)}
    first = Machine(data, arguments=("--no-demo",), python=user.python, variables=variables)
    try:
        first.wait_until_up()
        card, processes = first.card, family(first.process.pid)
        assert len(processes) >= 5
        assert {os.stat(f"/proc/{pid}").st_uid for pid in processes} == {user.owner}
    finally:
        code = first.stop()
    assert code == 0, first.said
    assert not any(map(is_alive, processes))
    begun = time.monotonic()
    second = Machine(data, arguments=("--no-demo",), python=user.python, variables=variables)
    try:
        second.wait_until_up()
        taken, busy = time.monotonic() - begun, os.getloadavg()[0] / (os.cpu_count() or 1)
        same = ("api_key", "workspace_slug", "workflow_id")
        assert [second.card[key] for key in same] == [card[key] for key in same]
        assert second.is_well()
    finally:
        assert second.stop() == 0, second.said
    # The promise is ten seconds on a machine that has nothing else to do.
    assert taken < 10 * max(1.0, 2 * busy), f"{taken:.1f} s at a load of {busy:.1f} a core"
