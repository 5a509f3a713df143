"""T1: every tenant table is guarded. A new table that misses anything fails here."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from db.doors import DOORS
from db.models import Base
from tests.db.conftest import Superuser

GLOBAL = {"users", "workspaces", "subscription_plans"}
CURRENT = (
    "( SELECT (NULLIF(current_setting('flowtrack.workspace_id'::text, true), ''::text))::uuid AS \"nullif\")"
)
TABLES = """
    SELECT c.oid, c.relname, c.relkind, c.relispartition, c.relrowsecurity, c.relforcerowsecurity
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND c.relname <> 'alembic_version'"""
TENANT = f"""
    SELECT t.* FROM ({TABLES}) t WHERE EXISTS (
        SELECT FROM pg_attribute a
        WHERE a.attrelid = t.oid AND a.attname = 'workspace_id' AND NOT a.attisdropped)"""


@pytest.fixture
def catalogue(superuser: Superuser) -> Iterator[psycopg.Connection[Any]]:
    with superuser() as connection:
        yield connection


def test_all_tables_but_three_belong_to_a_workspace(catalogue: psycopg.Connection[Any]):
    tables = {row[1] for row in catalogue.execute(TABLES)}
    tenant = {row[1] for row in catalogue.execute(TENANT)}
    assert tables - tenant == GLOBAL
    assert len([name for name in tenant if not name.startswith("execution_logs_")]) == 27
    assert {name for name in tables if not name.startswith("execution_logs_")} == set(Base.metadata.tables)


def test_row_level_security_is_on_and_forced_on_every_table_and_partition(catalogue: psycopg.Connection[Any]):
    rows = catalogue.execute(TABLES).fetchall()
    assert sum(row[3] for row in rows) >= 5
    assert [row[1] for row in rows if not (row[4] and row[5])] == []


def test_every_tenant_table_and_partition_has_the_policy_with_using_and_check(
    catalogue: psycopg.Connection[Any],
):
    found = catalogue.execute(
        "SELECT t.relname, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid), polcmd"
        f" FROM ({TENANT}) t LEFT JOIN pg_policy p ON p.polrelid = t.oid AND p.polname = 'tenant'"
        "  AND p.polpermissive AND p.polroles = ARRAY['flowtrack_app'::regrole::oid]"
    ).fetchall()
    expression = f"(workspace_id = {CURRENT})"
    assert {row[0] for row in found if row[1:] != (expression, expression, "*")} == set()


def test_there_is_no_policy_but_the_tenants_and_the_owners(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute(
        "SELECT DISTINCT p.polname, (SELECT string_agg(r::regrole::text, ',') FROM unnest(p.polroles) r)"
        " FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relname <> 'subscription_plans'"
    ).fetchall()
    assert set(found) == {("tenant", "flowtrack_app"), ("owner", "flowtrack_owner")}


def test_every_index_starts_with_the_workspace_or_is_a_doors(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute(
        f"SELECT i.indexrelid::regclass::text FROM ({TENANT}) t JOIN pg_index i ON i.indrelid = t.oid"
        " LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]"
        " WHERE a.attname IS DISTINCT FROM 'workspace_id'"
    ).fetchall()
    assert {name for (name,) in found if not name.startswith("door_")} == set()


def test_a_unique_doors_index_holds_nothing_a_tenant_chooses(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute(
        "SELECT indexrelid::regclass::text FROM pg_index"
        " WHERE indisunique AND indexrelid::regclass::text LIKE 'door%'"
    ).fetchall()
    assert {name for (name,) in found} == {
        "door_api_keys_key_id",  # random, ours
        "door_payload_keys_id",  # random, ours
        "door_workflow_executions_id",  # random, ours
        "door_workflow_hooks_token_hash",  # random, ours
        "door_subscriptions_stripe",  # Stripe's
    }


def test_every_reference_between_tenant_tables_holds_the_workspace(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute(
        f"""
        SELECT k.conrelid::regclass::text, k.conname, k.confrelid::regclass::text,
               ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS o (n, place)
                     JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.n ORDER BY place),
               ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS o (n, place)
                     JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = o.n ORDER BY place)
        FROM pg_constraint k JOIN ({TENANT}) t ON t.oid = k.conrelid
        WHERE k.contype = 'f' AND k.conparentid = 0
        """
    ).fetchall()
    loose = {
        name
        for _, name, parent, columns, target in found
        if parent not in GLOBAL and not (columns[0] == target[0] == "workspace_id" and len(columns) > 1)
    }
    assert len(found) > 30
    assert loose == set()


def test_every_tenant_table_is_deleted_with_its_workspace(catalogue: psycopg.Connection[Any]):
    tenant = {row[1] for row in catalogue.execute(TENANT) if not row[3]}
    edges = catalogue.execute(
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint"
        " WHERE contype = 'f' AND confdeltype = 'c' AND conparentid = 0"
    ).fetchall()
    reached, before = {"workspaces"}, set[str]()
    while reached != before:
        before = set(reached)
        reached |= {child for child, parent in edges if parent in reached}
    assert tenant - reached == set()


def test_every_foreign_key_has_an_index_on_its_columns(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute(
        """
        SELECT k.conname FROM pg_constraint k
        WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid <> 'users'::regclass
          AND NOT EXISTS (
            SELECT FROM pg_index i WHERE i.indrelid = k.conrelid
              AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey[1:2])
        """
    ).fetchall()
    assert found == []


def test_the_app_owns_nothing_and_cannot_bypass_or_create(catalogue: psycopg.Connection[Any]):
    role = catalogue.execute(
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles"
        " WHERE rolname = 'flowtrack_app'"
    ).fetchone()
    assert role == (False,) * 5
    owned = catalogue.execute(
        "SELECT count(*) FROM pg_shdepend WHERE refobjid = 'flowtrack_app'::regrole AND deptype = 'o'"
    ).fetchone()
    assert owned == (0,)
    memberships = catalogue.execute(
        "SELECT count(*) FROM pg_auth_members WHERE member = 'flowtrack_app'::regrole"
    ).fetchone()
    assert memberships == (0,)
    schema = catalogue.execute("SELECT has_schema_privilege('flowtrack_app', 'public', 'CREATE')").fetchone()
    assert schema == (False,)


def test_everything_is_owned_by_the_owner_role(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relowner <> 'flowtrack_owner'::regrole UNION ALL"
        " SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND proowner <> 'flowtrack_owner'::regrole"
    ).fetchall()
    assert found == []
    owner = catalogue.execute(
        "SELECT rolcanlogin, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = 'flowtrack_owner'"
    ).fetchone()
    assert owner == (False, False, False)


def test_the_app_has_no_grant_on_partitions(catalogue: psycopg.Connection[Any]):
    privileges = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
    found = catalogue.execute(
        f"SELECT relname FROM ({TABLES}) t WHERE relispartition"
        f" AND has_table_privilege('flowtrack_app', oid, '{privileges}')"
    ).fetchall()
    assert found == []


def test_the_app_may_only_read_and_write_rows(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute(
        f"SELECT relname, p FROM ({TABLES}) t, unnest(ARRAY['TRUNCATE', 'REFERENCES', 'TRIGGER']) p"
        " WHERE has_table_privilege('flowtrack_app', oid, p)"
    ).fetchall()
    assert found == []
    kept = {
        name: {
            verb
            for verb in ("INSERT", "UPDATE", "DELETE")
            if catalogue.execute(
                "SELECT has_table_privilege('flowtrack_app', %s, %s)", [name, verb]
            ).fetchone()
            == (True,)
        }
        for name in (
            *GLOBAL,
            "lead_events",
            "workflow_versions",
            "usage_events",
            "leads",
            "workflow_executions",
        )
    }
    assert kept == {
        "users": set(),
        "subscription_plans": set(),
        "workspaces": {"UPDATE", "DELETE"},
        "lead_events": {"INSERT"},
        "workflow_versions": {"INSERT"},
        "usage_events": {"INSERT"},
        "leads": {"INSERT", "UPDATE"},
        "workflow_executions": {"INSERT", "UPDATE"},
    }


def test_the_definer_functions_are_exactly_the_listed_doors(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute(
        "SELECT proname::text FROM pg_proc WHERE prosecdef AND proname !~ '^pg_'"
    ).fetchall()
    assert sorted(name for (name,) in found) == sorted(DOORS)


def test_every_function_pins_its_search_path(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND NOT coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)"
    ).fetchall()
    assert found == []


def test_only_the_app_may_call_the_doors_and_nobody_the_rest(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute(
        "SELECT p.proname::text, coalesce(array_agg(a.grantee::regrole::text)"
        " FILTER (WHERE a.grantee <> p.proowner), '{}') FROM pg_proc p LEFT JOIN LATERAL"
        " aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a ON true"
        " WHERE p.pronamespace = 'public'::regnamespace GROUP BY p.oid, p.proname"
    ).fetchall()
    callable_ = {name for name, grantees in found if grantees}
    assert all(set(grantees) <= {"flowtrack_app"} for _, grantees in found)
    assert callable_ == DOORS | {"quota_day", "open_quota_periods"}


def test_there_are_no_views_that_could_leak(catalogue: psycopg.Connection[Any]):
    views = catalogue.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')"
    ).fetchall()
    assert views == []


def test_nothing_newer_than_postgresql_15_and_no_extension_is_used(catalogue: psycopg.Connection[Any]):
    found = catalogue.execute("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'").fetchall()
    assert found == []
