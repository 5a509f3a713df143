"""The data directory of `flowtrack up`: one user at a time, and its key."""

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ENVIRONMENT = "environment.json"
"""What the processes of a running `flowtrack up` are told by variables."""
DATABASE = "FLOWTRACK_DATABASE_URL"


class InUseError(Exception):
    """Another `flowtrack up` holds the data directory."""


@contextmanager
def hold(directory: Path) -> Iterator[None]:
    """Hold the data directory; a second `flowtrack up` on it is refused."""
    # It holds the key that seals secrets, and mails.
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InUseError(
                f"`flowtrack up` already runs on {directory} (process {lock.read().strip() or 'unknown'}). "
                "Stop it first, or choose another --data-dir."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def master_key(path: Path) -> str:
    """Read the key that seals stored secrets, made at the first start."""
    if not path.exists():
        with private(path) as file:
            file.write(base64.b64encode(secrets.token_bytes(32)).decode())
    return path.read_text().strip()


def private(path: Path) -> IO[str]:
    """Open a file for writing that only its owner may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w")


def keep(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON that only its owner may read; whoever reads it meanwhile sees the old or the new."""
    draft = path.with_suffix(".part")
    with private(draft) as file:
        file.write(json.dumps(content, indent=2) + "\n")
    draft.rename(path)


def variables(directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Give what is not set of the configuration of the `flowtrack up` that runs on a directory.

    Nothing where another database is set: then another installation is meant, and half of this one would
    answer for it.
    """
    kept = directory / ENVIRONMENT
    if not kept.exists():
        return {}
    found: dict[str, str] = json.loads(kept.read_text())
    if environment.get(DATABASE, found.get(DATABASE)) != found.get(DATABASE):
        return {}
    return {name: value for name, value in found.items() if name not in environment}
