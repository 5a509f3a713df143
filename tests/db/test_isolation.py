"""T2: every tenant table against eight probes of one workspace at another's rows."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Table, and_, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError
from uuid_utils.compat import uuid7

from db.models import Base
from db.session import Database
from tests.db.conftest import Place, Superuser
from tests.db.rows import fill

pytestmark = pytest.mark.anyio

TENANT_TABLES = [table for table in Base.metadata.sorted_tables if "workspace_id" in table.c]
NAMES = [table.name for table in TENANT_TABLES]
# Ids and numbers of the whole installation: random, made by us or by Stripe, never by a tenant.
WORLDWIDE: dict[tuple[str, str], Callable[[], Any]] = {
    ("workflow_executions", "id"): uuid7,
    ("payload_keys", "id"): uuid7,
    ("api_keys", "key_id"): lambda: uuid7().hex,
    ("workflow_hooks", "token_hash"): lambda: uuid7().bytes,
}


@pytest.fixture
async def filled(database: Database, here: Place, there: Place) -> None:
    await fill(database, here)


def key_of(name: str) -> list[Any]:
    """Return what names a row within its workspace."""
    return [column for column in table_of(name).primary_key.columns if column.name != "workspace_id"]


def is_row(name: str, row: dict[str, Any]) -> Any:
    return and_(*(column == row[column.name] for column in key_of(name)))


def anew(row: dict[str, Any]) -> dict[str, Any]:
    """Give a copy of a row an id of its own, where its table has one."""
    return {**row, "id": uuid7()} if "id" in row else row


def rows_of(superuser: Superuser, place: Place, name: str) -> list[dict[str, Any]]:
    with superuser() as connection:
        order = ", ".join(column.name for column in key_of(name))
        statement = f"SELECT * FROM {name} WHERE workspace_id = %s ORDER BY {order}"
        cursor = connection.execute(statement, [place.workspace_id])
        columns = [column.name for column in cursor.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in cursor]


def table_of(name: str) -> Table:
    return Base.metadata.tables[name]


async def attempt(database: Database, place: Place, statement: Any) -> tuple[int, str]:
    """Run one statement as a workspace; tell how many rows it touched or how it was refused."""
    try:
        async with database.workspace(place.workspace_id) as session:
            result = await session.execute(statement)
            return result.rowcount, ""  # type: ignore[attr-defined] # of a cursor result
    except DBAPIError as error:
        return 0, type(error.orig).__name__


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", NAMES)
async def test_a_stranger_sees_changes_and_deletes_nothing(
    database: Database, superuser: Superuser, here: Place, there: Place, name: str
):
    table, before = table_of(name), rows_of(superuser, here, name)
    assert before, f"the test has no row in {name}"
    theirs = table.c.workspace_id == here.workspace_id
    async with database.workspace(there.workspace_id) as session:
        assert await session.scalar(select(func.count()).select_from(table).where(theirs)) == 0
        assert await session.scalar(select(func.count()).where(is_row(name, before[0]))) == 0
    for statement in (
        update(table).where(theirs).values({key: anew(before[0])[key.name] for key in key_of(name)}),
        update(table).where(is_row(name, before[0])).values(workspace_id=there.workspace_id),
        delete(table).where(theirs),
        delete(table).where(is_row(name, before[0])),
    ):
        touched, refused = await attempt(database, there, statement)
        assert (touched, refused) in {(0, ""), (0, "InsufficientPrivilege")}
    assert rows_of(superuser, here, name) == before


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", NAMES)
async def test_a_stranger_inserts_and_upserts_nothing_and_hands_nothing_over(
    database: Database, superuser: Superuser, here: Place, there: Place, name: str
):
    await fill(database, there)
    table, before = table_of(name), rows_of(superuser, here, name)
    row = written(name, before[0])
    key = [column.name for column in table.primary_key]
    handed = {"workspace_id": here.workspace_id}
    for statement in (
        insert(table).values(anew(row)),
        upsert(table).values(row).on_conflict_do_nothing(),
        upsert(table).values(row).on_conflict_do_update(index_elements=key, set_=handed),
        update(table).values(**handed),
    ):
        assert await attempt(database, there, statement) == (0, "InsufficientPrivilege")
    assert rows_of(superuser, here, name) == before


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "name", [t.name for t in TENANT_TABLES if any(len(k.columns) > 1 for k in t.foreign_key_constraints)]
)
async def test_a_row_cannot_point_to_another_workspaces_parent(
    database: Database, superuser: Superuser, here: Place, there: Place, name: str
):
    table = table_of(name)
    row = written(name, rows_of(superuser, here, name)[0])
    for key in table.foreign_key_constraints:
        columns = [column.name for column in key.columns if column.name not in ("workspace_id", "id")]
        if len(key.columns) < 2 or row[columns[0]] is None:
            continue
        foreign = {**anew(row), "workspace_id": there.workspace_id}
        foreign |= {"slug": None} if name == "workflows" else {}
        foreign |= {column: make() for (table_name, column), make in WORLDWIDE.items() if table_name == name}
        touched, refused = await attempt(database, there, insert(table).values(foreign))
        assert (touched, refused) == (0, "ForeignKeyViolation")


@pytest.mark.usefixtures("filled")
async def test_the_unique_probe_stays_silent_in_every_table(
    database: Database, superuser: Superuser, here: Place, there: Place
):
    """Copy all rows, ids and natural keys included: nothing may answer "exists" for a foreign row."""
    fresh: dict[UUID, UUID] = {}
    with superuser() as connection:
        for name in ("workflow_versions", "workflows", "workspace_members", "subscriptions", "usage_quotas"):
            connection.execute("SET session_replication_role = replica")
            connection.execute(f"DELETE FROM {name} WHERE workspace_id = %s", [there.workspace_id])
    async with database.workspace(there.workspace_id) as session:
        for table in ordered():
            for row in rows_of(superuser, here, table.name):
                copy = {**written(table.name, row), "workspace_id": there.workspace_id}
                copy["published_version_id"] = None if "published_version_id" in copy else ...
                copy = {
                    key: fresh.get(value, value) if isinstance(value, UUID) else value
                    for key, value in copy.items()
                    if value is not ...
                }
                for (owner, column), make in WORLDWIDE.items():
                    if owner == table.name:
                        old, copy[column] = copy[column], make()
                        fresh |= {old: copy[column]} if isinstance(old, UUID) else {}
                await session.execute(insert(table).values(copy))
    for name in NAMES:
        assert len(rows_of(superuser, there, name)) == len(rows_of(superuser, here, name)), name


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("key", list(WORLDWIDE), ids=".".join)
async def test_the_few_worldwide_keys_are_unique_worldwide(
    database: Database, superuser: Superuser, here: Place, there: Place, key: tuple[str, str]
):
    name, column = key
    await fill(database, there)
    mine, theirs = rows_of(superuser, there, name)[0], rows_of(superuser, here, name)[0]
    copy = {**anew(written(name, mine)), column: theirs[column]}
    copy |= {"idempotency_key": None} if "idempotency_key" in copy else {}
    assert await attempt(database, there, insert(table_of(name)).values(copy)) == (0, "UniqueViolation")


@pytest.mark.usefixtures("filled")
async def test_the_cascade_of_a_deleted_workspace_stops_at_its_own_rows(
    database: Database, superuser: Superuser, here: Place, there: Place
):
    await fill(database, there)
    before = {name: rows_of(superuser, here, name) for name in NAMES}
    async with database.workspace(there.workspace_id) as session:
        await session.execute(text("DELETE FROM workspaces WHERE id = :id"), {"id": here.workspace_id})
        await session.execute(text("DELETE FROM workspaces"))
    assert {name: rows_of(superuser, here, name) for name in NAMES} == before
    assert {name: len(rows_of(superuser, there, name)) for name in NAMES} == dict.fromkeys(NAMES, 0)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", NAMES)
async def test_without_a_workspace_there_are_no_rows_and_none_can_be_made(
    database: Database, superuser: Superuser, here: Place, name: str
):
    table = table_of(name)
    row = written(name, rows_of(superuser, here, name)[0])
    async with database.door() as session:
        assert await session.scalar(select(func.count()).select_from(table)) == 0
    with pytest.raises(DBAPIError) as refused:
        async with database.door() as session:
            await session.execute(insert(table).values(anew(row)))
    assert isinstance(refused.value.orig, InsufficientPrivilege)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", ["execution_logs_default", "execution_logs_2099_01"])
async def test_partitions_cannot_be_reached_around_their_table(database: Database, here: Place, name: str):
    for verb in (f"SELECT * FROM {name}", f"DELETE FROM {name}"):
        with pytest.raises(DBAPIError):
            async with database.workspace(here.workspace_id) as session:
                await session.execute(text(verb))


async def test_users_and_workspaces_of_others_are_invisible(database: Database, here: Place, there: Place):
    async with database.workspace(here.workspace_id) as session:
        assert (await session.execute(text("SELECT id FROM workspaces"))).scalars().all() == [
            here.workspace_id
        ]
        assert (await session.execute(text("SELECT id FROM users"))).scalars().all() == [here.user_id]
        changed = await session.execute(
            text("UPDATE workspaces SET name = 'mine' WHERE id = :id"), {"id": there.workspace_id}
        )
        assert changed.rowcount == 0  # type: ignore[attr-defined] # of a cursor result
    async with database.door() as session:
        for name in ("users", "workspaces"):
            assert await session.scalar(text(f"SELECT count(*) FROM {name}")) == 0
        assert await session.scalar(text("SELECT count(*) FROM subscription_plans")) == 3


def ordered() -> list[Table]:
    """Sort parents before children; lead_events and workflow_versions are part of a cycle."""
    last = {
        "workflow_versions": 1,
        "workflow_executions": 2,
        "lead_events": 4,
        "execution_logs": 5,
        "event_wakes": 5,
    }
    return sorted(
        TENANT_TABLES,
        key=lambda t: (last.get(t.name, 3 if "execution_id" in t.c else 0), TENANT_TABLES.index(t)),
    )


def written(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Name a row's values by the columns of the model."""
    return {column.name: row[column.name] for column in table_of(name).c}
