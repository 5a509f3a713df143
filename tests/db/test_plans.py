"""ERD patterns 1 to 4 and the hot lists are answered by indexes that begin with the workspace."""

import re
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Select, func, select, text
from sqlalchemy.dialects import postgresql
from uuid_utils.compat import uuid7

from db import leads, pipeline
from db.models import ExecutionLog, Lead, UsageQuota, WorkflowEdge, WorkflowExecution
from db.session import Database
from tests.db.conftest import Place, Superuser

pytestmark = pytest.mark.anyio
STATUSES = "ARRAY['NEW', 'CONTACTED', 'QUALIFIED', 'BOOKED', 'WON', 'LOST']"


def grow(superuser: Superuser, place: Place, rows: int, *, others: int) -> UUID:
    """Fill a workspace and a few strangers with leads, and name one of them."""
    with superuser() as connection:
        connection.execute("SET session_replication_role = replica")
        # VACUUM marks a page as visible to all only once the commit of its rows is on disk.
        connection.execute("SET synchronous_commit = on")
        connection.execute(
            "INSERT INTO form_fields (workspace_id, id, workflow_id, field_key, label, field_type)"
            " SELECT %s, gen_random_uuid(), %s, 'field_' || n, 'l', 'TEXT' FROM generate_series(1, 5) n",
            [place.workspace_id, place.workflow_id],
        )
        for workspace_id, amount in [(place.workspace_id, rows), *((uuid7(), rows) for _ in range(others))]:
            connection.execute(
                "INSERT INTO leads (workspace_id, id, workflow_id, email, status, created_at, deleted_at)"
                f" SELECT %s, gen_random_uuid(), %s, 'lead' || n || '@example.com', ({STATUSES})[1 + n %% 6],"
                " now() - n * interval '1 minute', CASE WHEN n %% 50 = 0 THEN now() END"
                " FROM generate_series(1, %s) n",
                [workspace_id, place.workflow_id, amount],
            )
        connection.execute(
            "INSERT INTO lead_field_data (workspace_id, id, lead_id, form_field_id, value)"
            " SELECT l.workspace_id, gen_random_uuid(), l.id, f.id, 'v' FROM leads l"
            " JOIN form_fields f ON f.workspace_id = l.workspace_id WHERE l.workspace_id = %s",
            [place.workspace_id],
        )
        connection.commit()
        connection.autocommit = True
        for table in ("leads", "lead_field_data", "form_fields"):
            connection.execute(f"VACUUM ANALYZE {table}")
        row = connection.execute(
            "SELECT id FROM leads WHERE workspace_id = %s AND email = 'lead7@example.com'",
            [place.workspace_id],
        ).fetchone()
    assert row is not None
    lead_id: UUID = row[0]
    return lead_id


async def plan(database: Database, place: Place, query: Select[*tuple[Any, ...]]) -> list[dict[str, Any]]:
    """List the nodes of the plan that the app's role gets."""
    async with database.workspace(place.workspace_id) as session:
        explain = text("EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) " + in_clear(query).replace(":", r"\:"))
        (found,) = (await session.execute(explain)).scalar_one()
    nodes, waiting = [], [found["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting += node.pop("Plans", [])
        nodes.append(node)
    return nodes


def in_clear(query: Select[*tuple[Any, ...]]) -> str:
    """Write a query with its values in place."""
    clear = {"literal_binds": True}
    return str(query.compile(dialect=postgresql.dialect(), compile_kwargs=clear))  # type: ignore[no-untyped-call] # so it is


def scans(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """Name each table read and the index it was read by."""
    named = (n for n in nodes if "Relation Name" in n or n["Node Type"] == "Bitmap Index Scan")
    return {
        n.get("Relation Name", n.get("Index Name", "")): n.get("Index Name", n["Node Type"]) for n in named
    }


def pattern_4(place: Place) -> Select[*tuple[Any, ...]]:
    new = func.count().filter(Lead.created_at > func.now() - text("interval '7 days'"))
    query = select(Lead.status, func.count(), new)
    return query.where(Lead.workspace_id == place.workspace_id, Lead.deleted_at.is_(None)).group_by(
        Lead.status
    )


@pytest.mark.parametrize(
    ("rows", "others"),
    [(4_000, 10), pytest.param(100_000, 9, marks=pytest.mark.slow)],
    ids=["small", "million"],
)
async def test_erd_patterns_1_and_4_are_index_scans_in_a_big_table(
    database: Database, here: Place, superuser: Superuser, rows: int, others: int
):
    lead_id = grow(superuser, here, rows, others=others)
    one = await plan(database, here, leads.with_fields(here.workspace_id, lead_id))
    assert not [
        node for node in one if node["Node Type"] == "Seq Scan" and node["Relation Name"] != "form_fields"
    ]
    assert scans(one)["leads"] == "leads_pkey"
    assert (
        sum(node.get("Actual Rows", 0) for node in one if node.get("Relation Name") == "lead_field_data") <= 5
    )
    board = await plan(database, here, pattern_4(here))
    (scan,) = [node for node in board if node.get("Relation Name") == "leads"]
    assert (scan["Node Type"], scan["Index Name"]) == ("Index Only Scan", "leads_pipeline")
    assert scan["Heap Fetches"] == 0
    async with database.workspace(here.workspace_id) as session:
        columns = await pipeline.summary(session, here.workspace_id)
        ours = await pipeline.summary(session, here.workspace_id, workflow_id=here.workflow_id)
        assert await pipeline.summary(session, here.workspace_id, workflow_id=uuid7()) == []
    assert sum(column.count for column in columns) == rows - rows // 50
    assert ours == columns
    week = min(rows, 7 * 24 * 60 - 1)
    assert sum(column.new_this_week for column in columns) == pytest.approx(week - week // 50, abs=2)


@pytest.mark.parametrize(
    ("table", "index"),
    [
        ("list", "leads_pkey"),
        ("email", "leads_workflow_id_email_key"),
        ("status", "leads_pipeline"),
    ],
)
async def test_the_lists_of_leads_begin_with_the_workspace(
    database: Database, here: Place, superuser: Superuser, table: str, index: str
):
    grow(superuser, here, 4_000, others=4)
    mine = select(Lead.id).where(Lead.workspace_id == here.workspace_id, Lead.deleted_at.is_(None))
    query = {
        "list": mine.order_by(Lead.id.desc()).limit(50),
        "email": mine.where(Lead.email == "lead9@example.com"),
        "status": mine.where(Lead.status == "WON", Lead.created_at > func.now() - text("interval '1 hour'")),
    }[table]
    assert index in scans(await plan(database, here, query)).values()


async def test_t7_the_policy_reads_no_block_more(
    database: Database, here: Place, superuser: Superuser, admin_url: str
):
    lead_id = grow(superuser, here, 4_000, others=4)
    unbound = Database(admin_url)
    mine = select(Lead.id).where(Lead.workspace_id == here.workspace_id, Lead.deleted_at.is_(None))
    for query in (
        leads.with_fields(here.workspace_id, lead_id),
        pattern_4(here),
        mine.order_by(Lead.id.desc()).limit(50),
        mine.where(Lead.email == "lead9@example.com"),
    ):
        under_policy = [await plan(source, here, query) for source in (database, unbound)]
        bound, free = (max(node["Shared Hit Blocks"] for node in nodes) for nodes in under_policy)
        assert bound <= free * 1.15
    await unbound.close()


async def test_the_hot_lookups_begin_with_the_workspace(database: Database, here: Place):
    """With sequential scans forbidden, an index that fits is used even in an empty table."""
    lookups: tuple[Select[*tuple[Any, ...]], ...] = (
        select(WorkflowEdge).where(
            WorkflowEdge.workspace_id == here.workspace_id,
            WorkflowEdge.workflow_id == here.workflow_id,
            WorkflowEdge.source_node_id == "n",
        ),
        select(UsageQuota).where(
            UsageQuota.workspace_id == here.workspace_id,
            UsageQuota.quota_key == "executions",
            UsageQuota.period_start <= func.current_date(),
        ),
        select(WorkflowExecution).where(
            WorkflowExecution.workspace_id == here.workspace_id, WorkflowExecution.status == "failed"
        ),
        select(ExecutionLog)
        .where(ExecutionLog.workspace_id == here.workspace_id, ExecutionLog.execution_id == uuid7())
        .order_by(ExecutionLog.created_at.desc()),
    )
    async with database.workspace(here.workspace_id) as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        await session.execute(text("SET LOCAL enable_bitmapscan = off"))
        for query in lookups:
            lines = "\n".join((await session.execute(text(f"EXPLAIN {in_clear(query)}"))).scalars())
            assert re.search(r"Index Cond: \(+workspace_id", lines), lines
            assert "Seq Scan" not in lines
