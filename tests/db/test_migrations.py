"""The migrations make exactly what the models say, from many processes at once, with the two roles."""

import re
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from psycopg import sql
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from db import migrate
from db.models import Base
from db.session import driver_url
from local.postgres import plain
from tests.conftest import Postgres

PARTITION = re.compile(r"execution_logs_(default|\d{4}_\d{2})")


@pytest.fixture
def connection(admin_url: str) -> Iterator[Connection]:
    engine = create_engine(driver_url(admin_url))
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def test_migrations_and_models_are_equal_in_both_directions(connection: Connection):
    def ours(_object: object, name: str | None, kind: str, *_rest: object) -> bool:
        return not (kind == "table" and (name == "alembic_version" or PARTITION.fullmatch(name or "")))

    context = MigrationContext.configure(
        connection, opts={"include_object": ours, "compare_type": True, "compare_server_default": True}
    )
    assert compare_metadata(context, Base.metadata) == []


def test_checks_and_keys_of_the_models_stand_in_the_database(connection: Connection):
    found = {
        (row.table_name, row.conname)
        for row in connection.execute(
            text(
                "SELECT conrelid::regclass::text AS table_name, conname FROM pg_constraint"
                " WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'p', 'u', 'f')"
                " AND conparentid = 0"
            )
        )
        if not PARTITION.fullmatch(row.table_name) and row.table_name != "alembic_version"
    }
    wanted = {
        (table.name, str(constraint.name))
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
    }
    assert found == wanted


def test_rows_that_were_there_are_checked_after_the_migrations_and_not_under_their_locks(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
):
    name = sql.Identifier("migrate_and_validate")
    postgres.execute(sql.SQL("CREATE DATABASE {}").format(name))
    url = postgres.url("migrate_and_validate", user="postgres")
    unvalidated = "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE NOT convalidated"
    try:
        with monkeypatch.context() as patched:
            patched.setattr(migrate, "_validate", lambda connection: None)
            migrate.upgrade(url)
        with psycopg.connect(plain(url)) as connection:
            found = connection.execute(unvalidated).fetchall()
        assert ("execution_logs", "execution_logs_source_check") in found
        migrate.upgrade(url)
        with psycopg.connect(plain(url)) as connection:
            assert connection.execute(unvalidated).fetchall() == []
    finally:
        postgres.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def test_every_table_of_the_erd_is_there(connection: Connection):
    erd = [
        "users",
        "workspaces",
        "workspace_members",
        "oauth_credentials",
        "workflows",
        "workflow_nodes",
        "workflow_edges",
        "form_fields",
        "leads",
        "lead_field_data",
        "lead_events",
        "workflow_executions",
        "execution_steps",
        "execution_logs",
        "subscription_plans",
        "subscriptions",
        "usage_quotas",
        "usage_events",
        "webhook_endpoints",
        "webhook_deliveries",
        "workspace_daily_stats",
    ]
    found = set(
        connection.execute(text("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')")).scalars()
    )
    assert len(erd) == 21
    assert set(erd) <= found


def test_the_newest_revision_is_the_applied_one(connection: Connection):
    assert migrate.applied(connection) == migrate.newest()


def test_processes_may_migrate_two_empty_databases_at_once(postgres: Postgres):
    names = ("migrate_together_a", "migrate_together_b")
    for name in names:
        postgres.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        urls = [postgres.url(name, user="postgres") for name in names for _ in range(3)]
        app_url = "postgresql://flowtrack_tenant_app:secret@/"
        program = "import sys; from db import migrate; print(migrate.upgrade(sys.argv[1], sys.argv[2]))"
        started = [
            subprocess.Popen([sys.executable, "-c", program, url, app_url], stdout=subprocess.PIPE, text=True)
            for url in urls
        ]
        results = [process.communicate(timeout=60)[0].strip() for process in started]
        assert results == [migrate.newest()] * 6
    finally:
        for name in names:
            postgres.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_the_app_url_names_the_login_role_and_its_password(postgres: Postgres, admin_url: str):
    app_url = make_url(admin_url).set(username="flowtrack_tenant_app", password='it\'s "a" secret')
    migrate.upgrade(admin_url, app_url.render_as_string(hide_password=False))
    with psycopg.connect(plain(admin_url)) as connection:
        row = connection.execute(
            "SELECT rolpassword LIKE 'SCRAM-SHA-256$%', rolcanlogin, rolsuper, rolbypassrls,"
            " pg_has_role(rolname, 'flowtrack_app', 'usage'),"
            " pg_has_role(rolname, 'flowtrack_owner', 'member')"
            " FROM pg_authid WHERE rolname = 'flowtrack_tenant_app'"
        ).fetchone()
    assert row == (True, True, False, False, True, False)


def test_a_login_without_superuser_rights_can_migrate_its_own_database(postgres: Postgres):
    login, name = sql.Identifier("migrate_login"), sql.Identifier("migrate_by_login")
    postgres.execute(
        sql.SQL("CREATE ROLE {} LOGIN CREATEROLE").format(login),
        sql.SQL("GRANT flowtrack_owner, flowtrack_app TO {} WITH ADMIN OPTION").format(login),
        sql.SQL("CREATE DATABASE {} OWNER {}").format(name, login),
    )
    try:
        assert migrate.upgrade(postgres.url("migrate_by_login", user="migrate_login")) == migrate.newest()
    finally:
        postgres.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        postgres.execute(sql.SQL("DROP ROLE {}").format(login))
