"""Bring a database to the newest schema and make the two roles it needs."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url

from db.session import driver_url

OWNER = "flowtrack_owner"
APP = "flowtrack_app"
# One number for one thing: whoever migrates any FlowTrack database of this server waits for the others.
MIGRATION_LOCK = 7_305_191_846
LIMITS = {"lock_timeout": "10s", "statement_timeout": "10min", "idle_in_transaction_session_timeout": "10min"}


def upgrade(admin_url: str, app_url: str | None = None) -> str:
    """Migrate to the newest revision and return it; safe to run from many processes at once."""
    engine = create_engine(driver_url(admin_url), connect_args={"application_name": "flowtrack-migrate"})
    try:
        with engine.connect() as connection, connection.begin():
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
            _limit(connection)
            _make_roles(connection, make_url(app_url) if app_url else None)
            _prepare(connection)
            command.upgrade(_config(connection), "head")
            return newest()
    finally:
        engine.dispose()


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


def _limit(connection: Connection) -> None:
    for name, value in LIMITS.items():
        connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})


def _make_roles(connection: Connection, app: URL | None) -> None:
    # Roles belong to the whole server, and its other databases may be migrated at this moment: the advisory lock
    # of another database does not hold us back, so each step also accepts that somebody else was faster.
    _create_role(connection, OWNER, "NOLOGIN NOBYPASSRLS")
    _create_role(connection, APP, "LOGIN NOBYPASSRLS")
    if app is None or app.username is None:
        return
    if app.username not in (APP, "postgres"):
        _create_role(connection, app.username, "LOGIN NOBYPASSRLS")
        _run(connection, sql.SQL("GRANT {} TO {}").format(sql.Identifier(APP), sql.Identifier(app.username)))
    if app.password and app.username != "postgres":
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
        _run(connection, statement.format(sql.Identifier(app.username), sql.Literal(str(app.password))))


def _create_role(connection: Connection, name: str, options: str) -> None:
    known = connection.execute(text("SELECT FROM pg_roles WHERE rolname = :name"), {"name": name})
    if known.first() is not None:
        return
    block = sql.SQL(
        "DO $$ BEGIN CREATE ROLE {} {}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    _run(connection, block.format(sql.Identifier(name), sql.SQL(options)))


def _prepare(connection: Connection) -> None:
    """Give the schema to the owner's role and become it, so that everything made belongs to it."""
    database = connection.execute(text("SELECT current_database()")).scalar_one()
    owner, app = sql.Identifier(OWNER), sql.Identifier(APP)
    if not connection.execute(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")).scalar_one():
        _run(connection, sql.SQL("GRANT {} TO CURRENT_USER").format(owner))
    _run(connection, sql.SQL("REVOKE TEMPORARY, CREATE ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
    _run(connection, sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    _run(connection, sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(owner))
    _run(connection, sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(app))
    _run(connection, sql.SQL("SET LOCAL ROLE {}").format(owner))


def _run(connection: Connection, statement: sql.Composable) -> None:
    connection.execution_options(no_parameters=True).exec_driver_sql(statement.as_string(None))
