"""What whole runs cost beside their own steps: the mirror's reads and statements, the bytes that stay."""

import asyncio
from collections import Counter

import psycopg
import pytest
from temporalio.client import Client

from activities.clients.runs import execution_of
from api.mirror.follower import Follower
from api.mirror.history import Histories
from db.session import Database
from local import demo
from local.postgres import plain
from tests.budgets.counting import Wire, calls, intake, statements, taken_through, transactions
from tests.e2e.house import House

pytestmark = pytest.mark.anyio

RUNS = 10
READS = ("get_workflow_execution_history_reverse", "get_workflow_execution_history")
OTHERS = ("describe_workflow_execution",)
KEPT_RUNS = 300
KEPT_BYTES = 12_000
"""A bar against growth: measured 11.6 kB (2026-11-23), of which a third are indexes."""
SIZES = """
    SELECT c.relname, pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'i', 't') AND n.nspname IN ('public', 'pg_toast') AND c.relname !~ '^pg_toast'
"""


async def test_the_mirror_reads_and_writes_little_for_each_run(house: House):
    workflow = await intake(house)
    await taken_through(house, workflow, 0)

    def is_own(workflow_id: str) -> bool:
        # The server is shared with every other test.
        return execution_of(workflow_id) in house.seen

    with (
        statements(house.database) as sent,
        calls(house.temporal, *READS, *OTHERS, about=is_own) as asked,
    ):
        for number in range(1, RUNS + 1):
            await taken_through(house, workflow, number)
        await asyncio.sleep(0.5)
    mirrored = Counter(statement for who, statement in sent if who == "Mirror._attend")
    # One read and two statements where the mirror looks once, after the end; a slow run is seen twice.
    assert asked.total() / RUNS <= 1.5, asked
    assert mirrored.total() / RUNS <= 5, mirrored


async def test_a_run_that_is_over_is_mirrored_in_one_transaction_of_few_statements(
    house: House, database: Database, temporal_client: Client
):
    workflow = await intake(house)
    await taken_through(house, workflow, 0)
    await asyncio.sleep(0.5)
    execution = (await house.rows("SELECT id FROM workflow_executions"))[0]["id"]
    # By connections of its own: the house's dispatcher and sweep go on meanwhile.
    follower = Follower(Histories(temporal_client), database)
    with (
        statements(database) as sent,
        transactions(database) as begun,
        calls(temporal_client, *READS, *OTHERS) as asked,
        Wire().traced(database) as wire,
    ):
        assert await follower.rebuild(execution)
    assert len(begun) == 1
    assert len(sent) <= 4, sent
    # What SQLAlchemy sent, and BEGIN, the write itself and COMMIT, which the driver sends.
    assert wire.trips <= 7, wire.trips
    assert asked.total() <= 2, asked


@pytest.mark.slow
async def test_a_run_keeps_no_more_bytes_than_it_did(house: House, admin_url: str):
    """Must: 6 kB, aim: 4 kB (performance.md). Dead rows are vacuumed away, as they are in operation."""
    workflow = await intake(house)
    await taken_through(house, workflow, -1)
    before = sizes(admin_url)
    open_runs = "SELECT count(*) FROM workflow_executions WHERE status <> 'completed'"
    for number in range(KEPT_RUNS):
        await house.submit(workflow, {**demo.ANSWERS, "email": f"ada{number}@example.com"})
        # Forms are taken much faster than one worker beside them in the same process ends their runs.
        while number % 20 == 19 and (await house.rows(open_runs))[0]["count"]:
            await asyncio.sleep(0.2)
    house.seen.clear()
    after = sizes(admin_url)
    grown = {name: round((size - before[name]) / KEPT_RUNS) for name, size in after.items()}
    assert sum(grown.values()) <= KEPT_BYTES, {name: size for name, size in grown.items() if size}


def sizes(admin_url: str) -> dict[str, int]:
    """Measure every table and every index, each without the other."""
    with psycopg.connect(plain(admin_url), autocommit=True) as connection:
        connection.execute("VACUUM FULL")
        return dict(connection.execute(SIZES).fetchall())
