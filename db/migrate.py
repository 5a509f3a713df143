"""Bring a database to the newest schema and make the two roles it needs."""

import threading
import time
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, InternalError, ProgrammingError

from db.session import driver_url

OWNER = "flowtrack_owner"
APP = "flowtrack_app"
# One number for one thing: whoever migrates any FlowTrack database of this server waits for the others.
MIGRATION_LOCK = 7_305_191_846
# Alembic keeps its context in a module, so inside one process migrations take turns as well.
TURN = threading.Lock()
ROLE_ATTEMPTS = 8
UNVALIDATED = """
    SELECT t.relname, c.conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
    WHERE NOT c.convalidated AND c.conislocal AND c.connamespace = 'public'::regnamespace
"""
LIMITS = {"lock_timeout": "10s", "statement_timeout": "10min", "idle_in_transaction_session_timeout": "10min"}


def upgrade(admin_url: str | URL, app_url: str | URL | None = None) -> str:
    """Migrate to the newest revision and return it; safe to run from many processes at once."""
    engine = create_engine(driver_url(admin_url), connect_args={"application_name": "flowtrack-migrate"})
    try:
        _make_roles(engine, make_url(app_url) if app_url else None)
        with TURN, engine.begin() as connection:
            _take_turn(connection)
            _prepare(connection)
            command.upgrade(_config(connection), "head")
        with engine.begin() as connection:
            _take_turn(connection)
            _validate(connection)
        return newest()
    finally:
        engine.dispose()


def _validate(connection: Connection) -> None:
    """Check the rows that were there before a constraint that a migration added as NOT VALID.

    In a transaction of its own it holds up neither readers nor writers; what it does not get done the next
    upgrade does.
    """
    _run(connection, sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(OWNER)))
    for table, name in connection.execute(text(UNVALIDATED)).all():
        statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
        _run(connection, statement.format(sql.Identifier("public", table), sql.Identifier(name)))


def newest() -> str:
    """Name the revision that this code expects."""
    head = ScriptDirectory.from_config(_config(None)).get_current_head()
    if head is None:
        raise RuntimeError("no migrations are installed")
    return head


def applied(connection: Connection) -> str | None:
    """Name the revision that a database is at."""
    return MigrationContext.configure(connection).get_current_revision()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _take_turn(connection: Connection) -> None:
    """Wait for whoever migrates now, as long as that takes, and for nothing else for long."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
    for name, value in LIMITS.items():
        connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})


def _make_roles(engine: Engine, app: URL | None) -> None:
    # Roles belong to the whole server, where an advisory lock reaches only one database. So they have a short
    # transaction of their own, and whoever changes the same role at the same moment is simply met again.
    for attempt in range(1, ROLE_ATTEMPTS + 1):
        try:
            with engine.begin() as connection:
                _roles(connection, app)
        except (InternalError, IntegrityError, ProgrammingError):
            if attempt == ROLE_ATTEMPTS:
                raise
            time.sleep(0.05 * attempt)
        else:
            return


def _roles(connection: Connection, app: URL | None) -> None:
    _create_role(connection, OWNER, "NOLOGIN NOBYPASSRLS")
    _create_role(connection, APP, "LOGIN NOBYPASSRLS")
    if app is None or app.username is None or app.username == _me(connection):
        return
    if app.username != APP:
        _create_role(connection, app.username, "LOGIN NOBYPASSRLS")
        _run(connection, sql.SQL("GRANT {} TO {}").format(sql.Identifier(APP), sql.Identifier(app.username)))
    if app.password:
        _set_password(connection, app.username, app.password)


def _me(connection: Connection) -> str:
    return str(connection.execute(text("SELECT current_user")).scalar_one())


def _create_role(connection: Connection, name: str, options: str) -> None:
    known = connection.execute(text("SELECT FROM pg_roles WHERE rolname = :name"), {"name": name})
    if known.first() is None:
        _run(connection, sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), sql.SQL(options)))


def _set_password(connection: Connection, name: str, password: str) -> None:
    # Hashed on this side: a statement may end up in the server's log.
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("psycopg is the only driver")
    hashed = driver.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    _run(connection, sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(hashed)))


def _prepare(connection: Connection) -> None:
    """Give the schema to the owner's role and become it, so that everything made belongs to it."""
    database = sql.Identifier(connection.execute(text("SELECT current_database()")).scalar_one())
    owner, app = sql.Identifier(OWNER), sql.Identifier(APP)
    _run(connection, sql.SQL("REVOKE TEMPORARY, CREATE ON DATABASE {} FROM PUBLIC").format(database))
    _run(connection, sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    _run(connection, sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(owner))
    _run(connection, sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(app))
    become = sql.SQL("SET LOCAL ROLE {}").format(owner)
    try:
        with connection.begin_nested():
            _run(connection, become)
    except ProgrammingError:
        # A login that made the role may administer it, but has to join it before it can become it.
        _run(connection, sql.SQL("GRANT {} TO CURRENT_USER").format(owner))
        _run(connection, become)


def _run(connection: Connection, statement: sql.Composable) -> None:
    connection.execution_options(no_parameters=True).exec_driver_sql(statement.as_string(None))
