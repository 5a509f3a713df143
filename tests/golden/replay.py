"""Replays golden histories as a worker would after a restart: under its sandbox policy, or a strict one."""

import asyncio
import json
import os
import sys
from pathlib import Path

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

import worker
from activities.interceptors import MirrorInterceptor
from activities.sandbox import sandbox
from db.session import Database
from tests.golden import corpus

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def replayer(*, strict: bool) -> Replayer:
    """Build a replayer of everything that a worker brings along; its database is never asked."""
    return Replayer(
        workflows=list(worker.WORKFLOWS),
        data_converter=pydantic_data_converter,
        interceptors=[MirrorInterceptor(Database(NOWHERE))],
        workflow_runner=sandbox(strict=strict),
        # Whoever imports everything again for each run is no deadlock, however busy the machine is.
        debug_mode=strict,
    )


async def replay(path: Path, using: Replayer) -> None:
    """Raise what a worker would stumble over."""
    await using.replay_workflow(corpus.read(path))


async def verdicts(path: Path) -> dict[str, str]:
    """Tell how a history fares under each policy."""
    found = {}
    for policy in ("production", "strict"):
        try:
            await replay(path, replayer(strict=policy == "strict"))
        except Exception as error:
            found[policy] = f"{type(error).__name__}: {error}"
        else:
            found[policy] = "fine"
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(verdicts(Path(sys.argv[1])))), flush=True)
    # About one process in ten that used the Temporal SDK aborts while the interpreter is taken down.
    os._exit(0)
