"""The supervisor, with small real processes."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from local.supervisor import Service, StartError, Supervisor, once

pytestmark = pytest.mark.anyio

SLEEPER = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('deaf', flush=True)\n"
    "time.sleep(60)",
]


async def always() -> bool:
    return True


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that is dead but not waited for does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def until(condition, *, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
def said():
    return []


@pytest.fixture
async def supervisor(tmp_path, said):
    supervisor = Supervisor(tmp_path / "logs", say=said.append)
    yield supervisor
    await supervisor.stop()


async def test_a_killed_child_comes_back(supervisor, said):
    await supervisor.start(Service("sleeper", SLEEPER, always))
    first = supervisor.pids["sleeper"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: supervisor.pids["sleeper"] != first)
    assert is_alive(supervisor.pids["sleeper"])
    await until(lambda: any("is back" in line for line in said))
    assert any("SIGKILL" in line for line in said)


async def test_a_child_that_comes_back_is_announced_to_who_asked(tmp_path):
    changes: list[dict[str, int]] = []
    keeper = Supervisor(tmp_path, say=lambda line: None, changed=lambda: changes.append(keeper.pids))
    await keeper.start(Service("sleeper", SLEEPER, always))
    os.kill(keeper.pids["sleeper"], signal.SIGKILL)
    await until(lambda: bool(changes))
    assert changes[-1] == keeper.pids
    await keeper.stop()


async def test_a_child_that_keeps_ending_is_started_again_ever_more_slowly(supervisor, tmp_path):
    starts = tmp_path / "starts"
    command = [sys.executable, "-c", f"open({str(starts)!r}, 'a').write('x')"]
    await supervisor.start(Service("brief", command, always))
    await asyncio.sleep(2)
    assert 2 <= len(starts.read_text()) <= 5


async def test_a_child_that_ends_before_it_is_ready_fails_the_start_with_its_last_words(supervisor):
    async def never() -> bool:
        return False

    command = [sys.executable, "-c", "raise SystemExit('the key is missing')"]
    with pytest.raises(StartError, match="the key is missing"):
        await supervisor.start(Service("hopeless", command, never))
    assert supervisor.pids == {}


async def test_a_child_that_is_never_ready_fails_the_start_in_time_and_is_stopped(supervisor):
    seen: list[int] = []

    async def never() -> bool:
        seen[:] = supervisor.pids.values()
        return False

    with pytest.raises(StartError, match="not ready after"):
        await supervisor.start(Service("slow", SLEEPER, never, patience=0.3))
    assert not is_alive(seen[0])


async def test_children_stop_and_the_deaf_are_killed(supervisor, said):
    log = supervisor.log("deaf")
    await supervisor.start(Service("sleeper", SLEEPER, always))
    await supervisor.start(Service("deaf", DEAF, always, grace=0.3))
    await until(lambda: "deaf" in log.read_text())
    pids = supervisor.pids
    await supervisor.stop()
    assert not any(map(is_alive, pids.values()))
    assert said == ["deaf did not stop within 0 s; killed"]


async def test_what_a_child_started_goes_with_it(supervisor, tmp_path):
    note = tmp_path / "grandchild"
    command = [
        sys.executable,
        "-c",
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen({SLEEPER!r})\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)",
    ]

    def noted() -> bool:
        return note.exists() and bool(note.read_text())

    await supervisor.start(Service("parent", command, always))
    await until(noted)
    await supervisor.stop()
    await until(lambda: not is_alive(int(note.read_text())))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
async def test_no_child_outlives_a_supervisor_that_was_killed(tmp_path):
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from local.supervisor import Service, Supervisor\n"
        "async def always(): return True\n"
        "async def main():\n"
        f"    supervisor = Supervisor(Path({str(tmp_path)!r}))\n"
        f"    await supervisor.start(Service('sleeper', {SLEEPER!r}, always))\n"
        "    print(supervisor.pids['sleeper'], flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    assert is_alive(child)
    process.kill()
    await process.wait()
    await until(lambda: not is_alive(child))


async def test_a_child_knows_its_configuration_from_the_environment_alone(supervisor):
    command = [sys.executable, "-c", "import os, time; print(os.environ['WORD'], flush=True); time.sleep(60)"]
    await supervisor.start(Service("reader", command, always, environment={"WORD": "hello"}))
    await until(lambda: "hello" in supervisor.log("reader").read_text())


async def test_a_command_that_fails_says_why():
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with pytest.raises(StartError, match="no such thing"):
        await once(command, environment=os.environ)


async def test_a_command_that_works_gives_what_it_printed():
    assert await once([sys.executable, "-c", "print(1)"], environment=os.environ) == "1\n"
