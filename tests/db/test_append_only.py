"""K7: history is written once. Bypasses fail, the cascade of a workspace or a workflow passes."""

from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, RestrictViolation
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.session import Database
from tests.db.conftest import Place, Superuser
from tests.db.rows import fill

pytestmark = pytest.mark.anyio

CHANGES = [
    "UPDATE lead_events SET description = 'changed'",
    "UPDATE lead_events SET metadata = '{}', triggered_by_user_id = NULL",
    "DELETE FROM lead_events",
    "TRUNCATE lead_events",
    "INSERT INTO lead_events SELECT * FROM lead_events ON CONFLICT (workspace_id, id)"
    " DO UPDATE SET description = 'changed'",
    "MERGE INTO lead_events e USING lead_events o ON e.id = o.id AND e.workspace_id = o.workspace_id"
    " WHEN MATCHED THEN DELETE",
]


@pytest.fixture
async def filled(database: Database, here: Place) -> None:
    await fill(database, here)


def count(connection: psycopg.Connection[Any], table: str = "lead_events") -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("statement", CHANGES)
async def test_k7_the_app_has_no_right_to_change_a_lead_event(
    database: Database, here: Place, statement: str
):
    with pytest.raises(DBAPIError) as refused:
        async with database.workspace(here.workspace_id) as session:
            await session.execute(text(statement))
    assert isinstance(refused.value.orig, InsufficientPrivilege)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("role", ["flowtrack_owner", "postgres"])
@pytest.mark.parametrize(
    "statement",
    [
        # PostgreSQL itself refuses to empty a table that others point to.
        *(f"{change} CASCADE" if change.startswith("TRUNCATE") else change for change in CHANGES),
        "DELETE FROM leads",
        "TRUNCATE leads CASCADE",
        "DO $$ BEGIN DELETE FROM lead_events; END $$",
    ],
)
async def test_k7_the_trigger_refuses_even_the_owner(superuser: Superuser, role: str, statement: str):
    with superuser() as connection:
        connection.execute(f"SET ROLE {role}")
        with pytest.raises(RestrictViolation):
            connection.execute(statement)
    with superuser() as connection:
        assert count(connection) == 1


@pytest.mark.usefixtures("filled")
async def test_k7_a_trigger_of_another_table_is_no_way_around(superuser: Superuser):
    with superuser() as connection, pytest.raises(RestrictViolation):
        connection.execute(
            "CREATE FUNCTION pg_temp.sneak() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN DELETE FROM public.lead_events; RETURN NEW; END $$;"
            " CREATE TEMP TABLE door (n int);"
            " CREATE TRIGGER sneak AFTER INSERT ON door FOR EACH ROW EXECUTE FUNCTION pg_temp.sneak();"
            " INSERT INTO door VALUES (1)"
        )


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("table", ["workflows", "workspaces"])
async def test_erd_12_events_go_with_their_workflow_or_workspace(
    database: Database, here: Place, superuser: Superuser, table: str
):
    async with database.workspace(here.workspace_id) as session:
        await session.execute(text(f"DELETE FROM {table}"))
    with superuser() as connection:
        assert count(connection) == 0
        assert count(connection, "leads") == 0


@pytest.mark.usefixtures("filled")
async def test_an_actor_who_is_gone_is_forgotten_and_the_event_stays(superuser: Superuser):
    with superuser() as connection:
        connection.execute("DELETE FROM workflow_executions")
        event = connection.execute(
            "SELECT event_type, triggered_by_workflow_execution_id, triggered_by_user_id IS NULL"
            " FROM lead_events"
        ).fetchone()
    assert event == ("FORM_SUBMITTED", None, False)


@pytest.mark.usefixtures("filled")
async def test_an_erased_leads_events_may_be_blanked_and_nothing_else(superuser: Superuser):
    blank = "UPDATE lead_events SET description = NULL, metadata = '{\"erased\": true}'"
    with superuser() as connection, pytest.raises(RestrictViolation):
        connection.execute(blank)
    with superuser() as connection:
        connection.execute("UPDATE leads SET erased_at = now()")
        connection.execute(blank)
    for statement in (
        f"{blank}, event_type = 'x'",
        f"{blank}, created_at = now()",
        "DELETE FROM lead_events",
    ):
        with superuser() as connection, pytest.raises(RestrictViolation):
            connection.execute(statement)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE workflow_versions SET graph = '{}'",
        "UPDATE workflow_versions SET published_by = NULL",
        "DELETE FROM workflow_versions",
        "TRUNCATE workflow_versions CASCADE",
    ],
)
async def test_a_published_version_never_changes(superuser: Superuser, statement: str):
    with superuser() as connection, pytest.raises(RestrictViolation):
        connection.execute(statement)


async def test_erd_17_a_plan_may_be_retired_and_not_changed(superuser: Superuser):
    with superuser() as connection:
        connection.execute("UPDATE subscription_plans SET retired_at = now()")
    for change in ("name = 'x'", "quotas = '{}'", "slug = 'x', retired_at = NULL"):
        with superuser() as connection, pytest.raises(RestrictViolation):
            connection.execute(f"UPDATE subscription_plans SET {change}")
