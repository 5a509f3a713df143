"""`flowtrack doctor`: looks at what the configuration points to and says what to do about what is wrong."""

import asyncio
import smtplib
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import psycopg

SECONDS = 5
OLDEST_PYTHON = (3, 11)
OLDEST_POSTGRESQL = 15


@dataclass(frozen=True)
class Finding:
    """What one check found; a remedy stands beside each problem."""

    subject: str
    is_well: bool
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'ok  ' if self.is_well else 'FAIL'}  {self.subject}: {self.what}"
        return line if self.is_well else f"{line}\n      → {self.remedy}"


def python() -> Finding:
    """Check the interpreter."""
    shown = ".".join(map(str, sys.version_info[:3]))
    is_well = sys.version_info[:2] >= OLDEST_PYTHON
    return Finding("Python", is_well, shown, "install Python 3.11 or newer")


def variables(environment: Mapping[str, str], known: Iterable[str]) -> Finding:
    """Look for FLOWTRACK_ variables that mean nothing, which are mostly misspelt ones."""
    unknown = sorted(name for name in environment if name.startswith("FLOWTRACK_") and name not in set(known))
    if not unknown:
        return Finding("Configuration", True, "read")
    return Finding("Configuration", False, f"unknown: {', '.join(unknown)}", "correct or unset them")


def master_key(is_set: bool) -> Finding:
    """Check that secrets can be sealed."""
    remedy = "set FLOWTRACK_MASTER_KEY; `flowtrack up` makes one in its data directory"
    return Finding("Master key", is_set, "set" if is_set else "not set", remedy)


def app_database(url: str) -> Finding:
    """Check that the app's role reaches the database, and is held by row-level security."""
    try:
        with _connect(url) as connection:
            version = connection.info.server_version // 10_000
            row = connection.execute(
                "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.Error as failure:
        return Finding("Database", False, _said(failure), "check FLOWTRACK_DATABASE_URL, and that it is up")
    if version < OLDEST_POSTGRESQL:
        return Finding("Database", False, f"PostgreSQL {version}", f"use {OLDEST_POSTGRESQL} or newer")
    if row is None or row[0]:
        remedy = "give the app the role flowtrack_app, which `flowtrack migrate` makes"
        return Finding("Database", False, "the app's role passes row-level security by", remedy)
    return Finding("Database", True, f"PostgreSQL {version} answers")


def schema(url: str, *, newest: str) -> Finding:
    """Check that the database has this version's schema."""
    remedy = "run `flowtrack migrate`"
    try:
        with _connect(url) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        return Finding("Schema", False, "not migrated", remedy)
    except psycopg.errors.InsufficientPrivilege:
        return Finding(
            "Schema", False, "this login may not see it", "set FLOWTRACK_MIGRATION_DATABASE_URL to check it"
        )
    except psycopg.Error as failure:
        return Finding("Schema", False, _said(failure), "check FLOWTRACK_MIGRATION_DATABASE_URL")
    found = str(row[0]) if row else "empty"
    return Finding("Schema", found == newest, f"revision {found}, wanted {newest}", remedy)


async def temporal(address: str, is_reachable: Callable[[], Awaitable[bool]]) -> Finding:
    """Check that Temporal answers."""
    try:
        is_well = await asyncio.wait_for(is_reachable(), SECONDS)
    except (RuntimeError, TimeoutError, OSError):
        is_well = False
    what = f"{address} answers" if is_well else f"{address} does not answer"
    return Finding("Temporal", is_well, what, "check FLOWTRACK_TEMPORAL_ADDRESS, and that it is up")


def builds(mine: str, current: str, others: Mapping[str, str]) -> Finding:
    """Check that the workers configured here get new runs, and tell which older builds may go."""
    still = [f"{name} {how}" for name, how in sorted(others.items()) if how != "inactive"]
    first = f"build {current} is current" if current else "unversioned"
    what = f"{first}; {', '.join(still)}" if still else first
    remedy = f"run `flowtrack deploy {mine}`" if mine else f"set FLOWTRACK_BUILD_ID={current}"
    return Finding("Workers", mine == current, what, remedy)


def mail(url: str) -> Finding:
    """Check that the mail server takes our login; nothing is sent."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (465 if parts.scheme == "smtps" else 25)
    server = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
    try:
        with server(host, port, timeout=SECONDS) as smtp:
            if "tls=starttls" in parts.query:
                smtp.starttls()
            if parts.username:
                smtp.login(unquote(parts.username), unquote(parts.password or ""))
            smtp.noop()
    except (OSError, smtplib.SMTPException) as failure:
        return Finding("Mail", False, f"{host}:{port}: {_said(failure)}", "check FLOWTRACK_SMTP_URL")
    return Finding("Mail", True, f"{host}:{port} answers")


def report(findings: Sequence[Finding], *, say: Callable[[str], None] = print) -> bool:
    """Print the findings; tell whether all is well."""
    for finding in findings:
        say(str(finding))
    return all(finding.is_well for finding in findings)


def _connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    return psycopg.connect(plain, connect_timeout=SECONDS)


def _said(failure: Exception) -> str:
    # One line: the drivers repeat themselves for each address they tried.
    return (str(failure).splitlines() or [type(failure).__name__])[0]
