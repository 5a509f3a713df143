"""Thousands of log lines of one execution: our statement against COPY, and a page of them read back.

    python benchmarks/logs.py [rounds]

COPY is refused to every role that row-level security holds, so it runs as the superuser, into the same table:
that is what it could save, not something the application may do. CPU is that of the processes themselves:
other work on the machine does not stretch it as it does seconds.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from db import doors, listing, logs, migrate
from db.models import Workflow, WorkflowExecution, WorkflowVersion
from db.session import Database, to_json
from local import postgres, supervisor

LINES = 2_000
DATABASE = "bench"
COLUMNS = (
    "workspace_id, execution_id, created_at, id, node_id, visit, log_level, message, data, source, run_id,"
    " event_id"
)
TICKS = os.sysconf("SC_CLK_TCK")
Line = dict[str, Any]


async def main(rounds: int) -> None:
    """Measure on a PostgreSQL of our own and print a table."""
    with tempfile.TemporaryDirectory(prefix="flowtrack-bench-") as directory:
        cluster = postgres.Cluster(Path(directory) / "postgres")
        cluster.prepare()
        keeper = supervisor.Supervisor(Path(directory) / "logs")
        await keeper.start(
            supervisor.Service(
                "postgres",
                cluster.command,
                cluster.is_ready,
                prepare=cluster.prepare,
                account=cluster.account,
            )
        )
        try:
            with psycopg.connect(postgres.plain(cluster.url()), autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE {DATABASE}")
            owner = cluster.url(database=DATABASE)
            migrate.upgrade(owner, cluster.url(database=DATABASE, user="flowtrack_app"))
            await measure(owner, cluster.url(database=DATABASE, user="flowtrack_app"), rounds)
        finally:
            await keeper.stop()


async def measure(owner_url: str, app_url: str, rounds: int) -> None:
    """Write the same lines in both ways, in turn, and read pages of the last ones."""
    database = Database(app_url, pool_size=1)
    workspace_id, execution_ids = await settled(database, 2 * rounds + 1)
    owner = await psycopg.AsyncConnection.connect(postgres.plain(owner_url), autocommit=True)
    app_pid = await backend_of(database)
    found: dict[str, list[tuple[float, float, float, int]]] = {"statement": [], "COPY": []}
    for number in range(rounds):
        ours, theirs = execution_ids[2 * number : 2 * number + 2]

        async def by_statement(ours: UUID = ours) -> None:
            async with database.workspace(workspace_id) as session:
                await logs.add(session, workspace_id, lines(ours), source="history")

        async def by_copy(theirs: UUID = theirs) -> None:
            await copied(owner, workspace_id, lines(theirs))

        found["statement"].append(await cost(owner, app_pid, by_statement))
        found["COPY"].append(await cost(owner, owner.info.backend_pid, by_copy))
    print(f"{LINES} lines, {rounds} rounds, medians\n")
    print("| way | ms | CPU ms of PostgreSQL | of Python | WAL kB |\n| --- | --- | --- | --- | --- |")
    for name, costs in found.items():
        middle = [statistics.median(each) for each in zip(*costs, strict=True)]
        times = " | ".join(f"{each * 1000:.0f}" for each in middle[:3])
        print(f"| {name} | {times} | {middle[3] / 1024:.0f} |")
    try:
        async with await psycopg.AsyncConnection.connect(postgres.plain(app_url)) as app:
            await copied(app, workspace_id, lines(execution_ids[-1]))
    except psycopg.Error as refusal:
        print(f"\nCOPY as the application: {refusal}")
    await owner.execute("ANALYZE execution_logs")
    ten = execution_ids[-1]
    async with database.workspace(workspace_id) as session:
        for _ in range(5):
            await logs.add(session, workspace_id, lines(ten), source="history")
    seconds = await cost(owner, app_pid, lambda: paged(database, workspace_id, ten))
    print(f"\nA page of 50 of {5 * LINES} lines: {seconds[0] * 20:.1f} ms, {seconds[1] * 20:.1f} ms of CPU")
    await owner.close()
    await database.close()


async def paged(database: Database, workspace_id: UUID, execution_id: UUID) -> None:
    """Read fifty pages, each from a cursor further back."""
    before = None
    for _ in range(50):
        async with database.workspace(workspace_id) as session:
            rows = await listing.logs(
                session, workspace_id, execution_id, listing.Lines(), limit=50, older_than=before
            )
        before = rows[-1].created_at, rows[-1].id


async def cost(
    owner: psycopg.AsyncConnection[Any], pid: int, work: Callable[[], Awaitable[None]]
) -> tuple[float, float, float, int]:
    """Do some work; tell seconds, seconds of CPU of a backend and of this process, and bytes of WAL."""
    position = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
    before = int((await (await owner.execute(position)).fetchone() or [0])[0])
    began, cpu, own = time.perf_counter(), spent(pid), time.process_time()
    await work()
    seconds, cpu, own = time.perf_counter() - began, spent(pid) - cpu, time.process_time() - own
    after = int((await (await owner.execute(position)).fetchone() or [0])[0])
    return seconds, cpu, own, after - before


def spent(pid: int) -> float:
    """Tell how much CPU a process has had; needs Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def backend_of(database: Database) -> int:
    """Name the process behind the one connection of the pool."""
    async with database.door() as session:
        pid: int = session.info["driver"].info.backend_pid
        return pid


async def copied(connection: psycopg.AsyncConnection[Any], workspace_id: UUID, given: list[Line]) -> None:
    """Write lines by COPY."""
    async with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY execution_logs ({COLUMNS}) FROM STDIN") as copy,
    ):
        for line in given:
            await copy.write_row(
                (
                    workspace_id,
                    *(
                        line[n]
                        for n in (
                            "execution_id",
                            "created_at",
                            "id",
                            "node_id",
                            "visit",
                            "log_level",
                            "message",
                        )
                    ),
                    Jsonb(line["data"], dumps=to_json),
                    "history",
                    line["run_id"],
                    line["event_id"],
                )
            )


def lines(execution_id: UUID) -> list[Line]:
    """Make lines as a loop's nodes write them."""
    now = datetime.now(UTC)
    return [
        {
            "id": str(uuid7()),
            "execution_id": str(execution_id),
            "created_at": (now + timedelta(milliseconds=n)).isoformat(),
            "node_id": "note",
            "visit": n + 1,
            "log_level": "INFO",
            "message": f"Item {n} of the list was looked at and taken in",
            "data": {"item": n, "name": "Ada Lovelace"},
            "run_id": "01a20000-0000-7000-8000-000000000000",
            "event_id": n + 5,
        }
        for n in range(LINES)
    ]


async def settled(database: Database, runs: int) -> tuple[UUID, list[UUID]]:
    """Make a workspace with so many executions."""
    today = datetime.now(UTC).date()
    async with database.door() as session:
        made = await doors.create_workspace(
            session, email="bench@example.com", name="Bench", slug="bench", today=today
        )
    key = {"workspace_id": made.workspace_id}
    workflow, version = uuid7(), uuid7()
    executions = [uuid7() for _ in range(runs)]
    async with database.workspace(made.workspace_id) as session:
        session.add(Workflow(**key, id=workflow, name="Intake", slug="intake", status="active"))
        await session.flush()
        graph: dict[str, Any] = {"nodes": [], "edges": []}
        session.add(
            WorkflowVersion(**key, id=version, workflow_id=workflow, version=1, content_hash="0", graph=graph)
        )
        await session.flush()
        ids = {"workflow_id": workflow, "workflow_version_id": version, "trigger_type": "FORM"}
        session.add_all(WorkflowExecution(**key, **ids, id=each) for each in executions)
    return made.workspace_id, executions


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9))
