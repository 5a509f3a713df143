"""What a run costs that is admitted where it is started, and one that its first activity admits.

    python benchmarks/admission.py [runs of each]

Starter and worker are this process, on servers of their own: runs of a trigger and one step, of both kinds by
turns, one after the other. CPU is this process's, so of starter and worker. Compare the two, not machines.
"""

import asyncio
import statistics
import sys
import time
from dataclasses import replace
from typing import Any
from uuid import UUID

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker
from uuid_utils.compat import uuid7

import worker
from activities.begin import Begin
from activities.clients import addresses, runs, temporal
from activities.clients.http import Client as HTTPClient
from activities.world import World
from db import migrate, quotas, starts
from db.models import Lead
from db.session import Database
from db.starts import Start
from tests import servers
from tests.activities.conftest import MASTER_KEY, mail_client
from tests.conftest import APP_ROLE, Postgres, _statement
from tests.db.conftest import Place, queued, settle
from tests.workflows.drawn import edges, execution, log, trigger
from workflows.execution import ExecutionWorkflow
from workflows.graph import Graph
from workflows.messages import Outcome, StepInput

TOGETHER, WARM, QUEUE = 10, 20, "bench"
KINDS = {"by `begin`": True, "where it is started": False}
"""What waits behind others is left to `begin`."""
GRAPH = Graph(nodes=(trigger(), log("log", reads=("lead.name",))), edges=edges("start>log"))


@activity.defn(name="UTILITY_LOG")
async def nothing(given: StepInput) -> Outcome:
    """Do nothing."""
    return Outcome()


async def main(times: int) -> None:
    """Take turns, and print the medians."""
    alive = servers.begin()
    try:
        postgres = Postgres(servers.address("postgres"))
        postgres.execute(_statement("CREATE DATABASE {}", "bench"))
        owner, url = postgres.url("bench", user="postgres"), postgres.url("bench", user=APP_ROLE)
        await asyncio.to_thread(migrate.upgrade, owner, url)
        client = await temporal.connect(servers.address("temporal"))
        found = await measure(Database(url), client, times)
    finally:
        if alive is not None:
            servers.finish(alive)
    print("| admitted | events | ms a run | CPU ms a run |\n| --- | --- | --- | --- |")
    for kind, rounds in found.items():
        middle = [statistics.median(column) for column in zip(*rounds, strict=True)]
        print(f"| {kind} | {middle[0]:.0f} | " + " | ".join(f"{one:.1f}" for one in middle[1:]) + " |")


async def measure(database: Database, client: Client, times: int) -> dict[str, list[list[float]]]:
    """Carry a few of each kind out in turn."""
    place = await settle(database, "here")
    world = World(
        database=database,
        temporal=client,
        http=HTTPClient(addresses.DEVELOPMENT),
        smtp=mail_client(1),
        mail_from="FlowTrack <hello@flowtrack.example>",
        public_url="http://127.0.0.1:8000",
        master_key=MASTER_KEY,
        task_queue=QUEUE,
    )
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    working = Worker(
        client,
        task_queue=QUEUE,
        workflows=[ExecutionWorkflow],
        activities=[Begin(world).begin, nothing],
        workflow_runner=worker.sandbox(),
    )
    async with working:
        for number in range(-WARM, times, TOGETHER):
            for kind, waits_behind in KINDS.items():
                spent = await burst(client, database, await orders(database, place, waits_behind))
                if number >= 0:
                    found[kind].append(spent)
    await world.http.aclose()
    await world.smtp.aclose()
    await database.close()
    return found


async def orders(database: Database, place: Place, waits_behind: bool) -> list[Start]:
    """Order runs, each of a lead of its own."""
    ids: list[UUID] = [uuid7() for _ in range(TOGETHER)]
    key: dict[str, Any] = {"workspace_id": place.workspace_id, "workflow_id": place.workflow_id}
    async with database.workspace(place.workspace_id) as session:
        session.add_all(Lead(**key, id=each, email=f"{each}@example.com", first_name="Ada") for each in ids)
        await session.flush()
        session.add_all(queued(place, id=each, lead_id=each) for each in ids)
        await quotas.consume(session, place.workspace_id, "executions", 0)
    given = execution(GRAPH).model_copy(update=key)
    inputs = [given.model_copy(update={"execution_id": each, "lead_id": each}) for each in ids]
    return [Start(input=one, workflow_name="Bench", waits_behind=waits_behind) for one in inputs]


async def burst(client: Client, database: Database, ordered: list[Start]) -> list[float]:
    """Take runs through, one after the other; tell the events of one, and milliseconds by both clocks."""
    before = time.perf_counter(), time.process_time()
    for start in ordered:
        admitted = await starts.admitted(database, start)
        # Whose turn it is makes no difference to a worker that has none else.
        await runs.begin(client, replace(admitted, waits_behind=False), task_queue=QUEUE)
        await client.get_workflow_handle(runs.workflow_id_of(start.execution_id)).result()
    after = time.perf_counter(), time.process_time()
    spent = [(now - then) * 1000 / len(ordered) for then, now in zip(before, after, strict=True)]
    last = client.get_workflow_handle(runs.workflow_id_of(ordered[-1].execution_id))
    return [len((await last.fetch_history()).events), *spent]


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
