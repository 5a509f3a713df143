"""What `flowtrack doctor` asks of PostgreSQL itself: the role, the settings, the schema, the log's months."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import psycopg

from local.doctor import SECONDS, clock, said
from local.findings import Finding, bounded, fail, ok, warn
from local.postgres import plain

OLDEST_POSTGRESQL = 15
MONTHS_AHEAD = 3
POOLS, VIEWING = 3, 3
"""Pools of one API and one worker: two and one. An API that hosts runs has one more, a worker's."""
Connection = psycopg.Connection[tuple[Any, ...]]

OWNED = "SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole AND relkind IN ('r', 'p')"
BYPASS = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
UNGUARDED = """
    SELECT count(*) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id'
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
"""
MONTHS = """
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass('public.execution_logs')
"""
SETTINGS = ("autovacuum", "track_counts", "fsync", "full_page_writes", "max_connections", "server_encoding")


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Connect, but not for longer than a check may take."""
    with psycopg.connect(plain(url), connect_timeout=SECONDS) as connection:
        yield connection


def app(url: str, *, pool_size: int = 10, hosts: bool = False) -> list[Finding]:
    """Check everything that the app's own role can see; one finding where it does not answer."""
    try:
        with connected(url) as connection:
            return [
                server(connection),
                role(connection),
                *settings(connection, pool_size=pool_size, hosts=hosts),
                months(connection, datetime.now(UTC).date()),
                clock("PostgreSQL's clock", skew(connection)),
            ]
    except psycopg.Error as failure:
        return [fail("Database", said(failure), "check FLOWTRACK_DATABASE_URL, and that it is up")]


def server(connection: Connection) -> Finding:
    """Check the version."""
    version = connection.info.server_version // 10_000
    if version < OLDEST_POSTGRESQL:
        return fail("Database", f"PostgreSQL {version}", f"use {OLDEST_POSTGRESQL} or newer")
    return ok("Database", f"PostgreSQL {version} answers")


def role(connection: Connection) -> Finding:
    """Check that the app's role is held by row-level security, and that every tenant's table has it."""
    remedy = "give the app the role flowtrack_app, which `flowtrack migrate` makes"
    if _one(connection, BYPASS):
        return fail("Role", "the app's role passes row-level security by", remedy)
    if owned := _one(connection, OWNED):
        return fail("Role", f"the app's role owns {owned} tables, and could switch it off", remedy)
    if unguarded := _one(connection, UNGUARDED):
        return fail("Role", f"{unguarded} tables lack row-level security", "run `flowtrack migrate`")
    return ok("Role", "owns nothing, and row-level security holds it")


def settings(connection: Connection, *, pool_size: int, hosts: bool = False) -> list[Finding]:
    """Check the settings that speed or safety hang on."""
    query = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
    given: dict[str, str] = dict(connection.execute(query, [list(SETTINGS)]).fetchall())
    found: list[Finding] = []
    if off := [name for name in ("autovacuum", "track_counts") if given[name] != "on"]:
        remedy = "set it to on: without statistics every check of a foreign key reads whole workspaces"
        found.append(fail("PostgreSQL", f"{', '.join(off)} off", remedy))
    if off := [name for name in ("fsync", "full_page_writes") if given[name] != "on"]:
        remedy = "set it to on: leads are lost with the machine's power"
        found.append(warn("PostgreSQL", f"{', '.join(off)} off", remedy))
    if given["server_encoding"] != "UTF8":
        remedy = "make the database anew with ENCODING 'UTF8'"
        found.append(fail("PostgreSQL", f"encoding {given['server_encoding']}", remedy))
    # The smallest pool is that of viewers.
    wanted, most = (POOLS + hosts) * pool_size + VIEWING, int(given["max_connections"])
    if most < wanted:
        remedy = f"raise it to {wanted}, more for each further process, or lower FLOWTRACK_DATABASE_POOL_SIZE"
        what = f"max_connections {most}, and one API and worker use {wanted}"
        found.append(warn("PostgreSQL", what, remedy))
    return found or [ok("PostgreSQL", "its settings will do")]


def months(connection: Connection, today: date) -> Finding:
    """Check that the log's months are made ahead; without one nothing is lost, the default takes it."""
    have = {str(name) for (name,) in connection.execute(MONTHS).fetchall()}
    if not have:
        return fail("Log", "there are no tables", "run `flowtrack migrate`")
    missing = [name for name in ahead(today) if name not in have]
    remedy = "see that upkeep-keep_log_partitions runs: its schedule is in the Temporal Web UI"
    what = f"months missing: {', '.join(missing)}" if missing else "three months ahead"
    return bounded("Log", what, len(missing), warn_at=1, remedy=remedy)


def ahead(today: date) -> list[str]:
    """Name this month's table and those of the months that are made ahead."""
    first = today.year * 12 + today.month - 1
    return [f"execution_logs_{n // 12}_{n % 12 + 1:02}" for n in range(first, first + MONTHS_AHEAD + 1)]


def skew(connection: Connection) -> float:
    """Tell by how many seconds PostgreSQL's clock is before ours; half the question's way is allowed for."""
    asked = datetime.now(UTC)
    theirs: datetime = _one(connection, "SELECT clock_timestamp()")
    answered = datetime.now(UTC)
    return (theirs - (asked + (answered - asked) / 2)).total_seconds()


def schema(url: str, *, newest: str) -> Finding:
    """Check that the database has this version's schema."""
    remedy = "run `flowtrack migrate`"
    try:
        with connected(url) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        return fail("Schema", "not migrated", remedy)
    except psycopg.errors.InsufficientPrivilege:
        remedy = "set FLOWTRACK_MIGRATION_DATABASE_URL to check it"
        return fail("Schema", "this login may not see it", remedy)
    except psycopg.Error as failure:
        return fail("Schema", said(failure), "check FLOWTRACK_MIGRATION_DATABASE_URL")
    found = str(row[0]) if row else "empty"
    what = f"revision {found}" if found == newest else f"revision {found}, wanted {newest}"
    return ok("Schema", what) if found == newest else fail("Schema", what, remedy)


def _one(connection: Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None
