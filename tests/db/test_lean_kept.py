"""Rows that were there before migrations 0015 and 0017 are there after them, and are read as before."""

from collections.abc import AsyncIterator, Iterator
from datetime import date
from uuid import UUID

import psycopg
import pytest
from alembic import command
from psycopg import sql
from sqlalchemy import create_engine
from uuid_utils.compat import uuid7

from db import doors, leads, listing, migrate, steps
from db.listing import Lines
from db.session import Database, driver_url
from local.postgres import plain
from tests.conftest import APP_ROLE, Postgres

pytestmark = pytest.mark.anyio

NAME = "migrate_lean_kept"
ANSWERS = '{"budget": 5000}'
ROWS = """
    INSERT INTO workflows (workspace_id, id, name, status) VALUES (%(w)s, %(flow)s, 'Intake', 'active');
    INSERT INTO workflow_versions (workspace_id, id, workflow_id, version, content_hash, graph)
        VALUES (%(w)s, %(version)s, %(flow)s, 1, '0', '{}');
    INSERT INTO form_fields (workspace_id, id, workflow_id, field_key, label, field_type)
        VALUES (%(w)s, %(field)s, %(flow)s, 'budget', 'Budget', 'NUMBER');
    INSERT INTO leads (workspace_id, id, workflow_id, email)
        VALUES (%(w)s, %(lead)s, %(flow)s, 'a@example.com');
    INSERT INTO lead_field_data (workspace_id, id, lead_id, form_field_id, value)
        VALUES (%(w)s, %(answer)s, %(lead)s, %(field)s, '5000');
    INSERT INTO workflow_executions (workspace_id, id, workflow_id, workflow_version_id, lead_id,
        trigger_type, trigger_data)
        VALUES (%(w)s, %(run)s, %(flow)s, %(version)s, %(lead)s, 'FORM', %(answers)s);
    INSERT INTO execution_steps (workspace_id, id, execution_id, node_id, node_type, step_number, status,
        input_data, output_data)
        VALUES (%(w)s, %(step)s, %(run)s, 'form', 'TRIGGER_FORM', 1, 'completed', '{"a": 1}', %(answers)s);
    INSERT INTO execution_logs (workspace_id, id, execution_id, message, run_id, event_id)
        VALUES (%(w)s, %(line)s, %(run)s, 'Run started', 'r', 1);
"""
OF_STEP = """
    INSERT INTO execution_logs (workspace_id, id, execution_id, execution_step_id, message)
        VALUES (%(w)s, %(id)s, %(run)s, %(step)s, 'Tried');
"""
OTHER_RUN = """
    INSERT INTO workflow_executions (workspace_id, id, workflow_id, workflow_version_id, trigger_type)
        VALUES (%(w)s, %(run)s, %(flow)s, %(version)s, 'FORM');
"""
STEPS_OF_LINES = "SELECT execution_step_id FROM execution_logs WHERE message = 'Tried'"


@pytest.fixture
def before(postgres: Postgres, template_database: str) -> Iterator[str]:
    """Make a database as the release before left it; the template's migration has made the roles."""
    postgres.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
    engine = create_engine(driver_url(postgres.url(NAME, user="postgres")))
    with migrate.TURN, engine.begin() as connection:
        migrate._prepare(connection)
        command.upgrade(migrate._config(connection), "0013")
    engine.dispose()
    yield NAME
    postgres.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(NAME)))


@pytest.fixture
async def database(postgres: Postgres, before: str) -> AsyncIterator[Database]:
    """Open it as the app does."""
    opened = Database(postgres.url(before, user=APP_ROLE))
    yield opened
    await opened.close()


async def test_what_an_older_release_wrote_reads_the_same(
    postgres: Postgres, before: str, database: Database
):
    names = ("flow", "version", "field", "lead", "answer", "run", "step", "line")
    ids: dict[str, UUID] = {name: uuid7() for name in names}
    admin_url = postgres.url(before, user="postgres")
    async with database.door() as session:
        here = await doors.create_workspace(
            session, email="a@example.com", name="Here", slug="here", today=date(2026, 11, 27)
        )
    with psycopg.connect(plain(admin_url), cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(ROWS, {**ids, "w": here.workspace_id, "answers": ANSWERS})
    migrate.upgrade(admin_url)
    async with database.workspace(here.workspace_id) as session:
        (step,) = await steps.page(session, here.workspace_id, ids["run"], limit=9)
        assert (step.input_data, step.output_data) == ({"a": 1}, {"budget": 5000})
        (line,) = await listing.logs(session, here.workspace_id, ids["run"], Lines(), limit=9)
        assert (line.id, line.message, line.run_id) == (ids["line"], "Run started", "r")
        lead = await leads.get_with_fields(session, here.workspace_id, ids["lead"])
        assert lead is not None
        assert lead.fields == {"budget": "5000"}
        await leads.set_fields(session, here.workspace_id, ids["lead"], {"budget": "6000"})
        changed = await leads.get_with_fields(session, here.workspace_id, ids["lead"])
        assert changed is not None
        assert changed.fields == {"budget": "6000"}


async def test_a_line_keeps_its_step_there_and_back_and_names_no_other_runs(
    postgres: Postgres, before: str, database: Database
):
    names = ("flow", "version", "field", "lead", "answer", "run", "step", "line", "id")
    ids: dict[str, UUID] = {name: uuid7() for name in names}
    admin_url = postgres.url(before, user="postgres")
    async with database.door() as session:
        here = await doors.create_workspace(
            session, email="a@example.com", name="Here", slug="here", today=date(2026, 11, 27)
        )
    given = {**ids, "w": here.workspace_id, "answers": ANSWERS}
    with psycopg.connect(plain(admin_url), cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(ROWS + OF_STEP, given)
    migrate.upgrade(admin_url)
    engine = create_engine(driver_url(admin_url))
    with migrate.TURN, engine.begin() as migrated:
        migrate._prepare(migrated)
        command.downgrade(migrate._config(migrated), "0016")
    engine.dispose()
    migrate.upgrade(admin_url)
    with psycopg.connect(
        plain(admin_url), autocommit=True, cursor_factory=psycopg.ClientCursor
    ) as connection:
        assert connection.execute(STEPS_OF_LINES).fetchall() == [(ids["step"],)]
        another = {**given, "id": uuid7(), "run": uuid7()}
        connection.execute(OTHER_RUN, another)
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match="execution_step_id"):
            connection.execute(OF_STEP, another)
        connection.execute("DELETE FROM execution_steps")
        assert connection.execute(STEPS_OF_LINES).fetchall() == [(None,)]
