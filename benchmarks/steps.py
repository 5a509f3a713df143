"""What each step of a run costs the worker: CPU of the Python process, and the time until it is done.

    python benchmarks/steps.py [times each]

Steps run through their activities, as a worker runs them, on a PostgreSQL of their own; the mail server and
the webhook's target stand in another process. Seconds differ between machines and with what else they do:
compare two versions in turn, by medians.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from temporalio.testing import ActivityEnvironment
from uuid_utils.compat import uuid7

from activities.begin import Begin
from activities.clients import addresses, temporal
from activities.clients.http import Client as HTTPClient
from activities.world import World
from db import endpoints, leads, migrate, quotas
from db.models import FormField, Lead, UsageQuota
from db.session import Database
from local import mail
from tests import servers
from tests.activities.conftest import MASTER_KEY, Stage, activity_of, mail_client
from tests.conftest import APP_ROLE, Postgres, _statement
from tests.db.conftest import queued, settle
from workflows.messages import BeginInput

TOGETHER, WARM = 20, 40
STEPS: dict[str, dict[str, Any]] = {
    "LOGIC_CONDITION": {"condition": {"field": "trigger.budget", "operator": "exists"}},
    "ACTION_SET_LEAD_STATUS": {"status": "QUALIFIED"},
    "ACTION_ADD_LEAD_EVENT": {"eventType": "CALLED", "description": "x"},
    "ACTION_UPDATE_LEAD": {"set": {"company": "{{ execution.id }}", "budget": 7000}},
    "ACTION_SEND_EMAIL": {
        "emailSubject": "Hi {{ lead.name }}",
        "emailBody": "<p>Thanks, {{ lead.name }}.</p>",
    },
    "ACTION_DELIVER_WEBHOOK": {"eventType": "lead.won", "payload": {"lead": "{{ lead.email }}"}},
}
Run = Callable[[int], Awaitable[object]]


@dataclass(frozen=True)
class Cost:
    """Microseconds of one step."""

    cpu: float
    wall: float


async def main(times: int) -> None:
    """Run every step so many times, a few of each in turn, and print the medians."""
    alive = servers.begin()
    outside = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "outside", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert outside.stdout is not None
        smtp, http = map(int, (await outside.stdout.readline()).split())
        postgres = Postgres(servers.address("postgres"))
        postgres.execute(_statement("CREATE DATABASE {}", "bench"))
        owner, url = postgres.url("bench", user="postgres"), postgres.url("bench", user=APP_ROLE)
        await asyncio.to_thread(migrate.upgrade, owner, url)
        for name, costs in (await measure(Database(url), smtp, http, times)).items():
            cpu, wall = (statistics.median(getattr(cost, kind) for cost in costs) for kind in ("cpu", "wall"))
            print(f"{name:24} {cpu / 1000:7.2f} ms CPU {wall / 1000:8.2f} ms")
    finally:
        if outside.stdin is not None:
            outside.stdin.close()
        await outside.wait()
        if alive is not None:
            servers.finish(alive)


async def measure(database: Database, smtp: int, http: int, times: int) -> dict[str, list[Cost]]:
    """Run the steps, every time of another run."""
    world = World(
        database=database,
        temporal=await temporal.connect("127.0.0.1:1", lazy=True),
        http=HTTPClient(addresses.DEVELOPMENT),
        smtp=mail_client(smtp),
        mail_from="FlowTrack <hello@flowtrack.example>",
        public_url="http://127.0.0.1:8000",
        master_key=MASTER_KEY,
        task_queue="bench",
    )
    runs = await scene(world, f"http://127.0.0.1:{http}/", times + WARM)
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for run in runs.values():
        for number in range(WARM):
            await run(number)
    for first in range(WARM, times + WARM, TOGETHER):
        for name, run in runs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            for number in range(first, first + TOGETHER):
                await run(number)
            spent = time.process_time() - cpu, time.perf_counter() - wall
            costs[name].append(Cost(*(seconds / TOGETHER * 1e6 for seconds in spent)))
    await world.http.aclose()
    await world.smtp.aclose()
    await database.close()
    return costs


async def scene(world: World, target: str, count: int) -> dict[str, Run]:
    """Set up a lead, an endpoint and so many runs; return how each step is run in one of them."""
    place = await settle(world.database, "here")
    key = {"workspace_id": place.workspace_id, "workflow_id": place.workflow_id}
    lead_id, ids = uuid7(), [uuid7() for _ in range(count)]
    async with world.database.workspace(place.workspace_id) as session:
        session.add(FormField(**key, id=uuid7(), field_key="budget", label="Budget", field_type="NUMBER"))
        session.add(Lead(**key, id=lead_id, email="ada@example.com", first_name="Ada", status="NEW"))
        await session.flush()
        session.add_all(queued(place, id=each, lead_id=lead_id) for each in ids)
        for name in ("executions", "email_sends"):
            await quotas.consume(session, place.workspace_id, name, 0)
            period = await quotas.current(session, place.workspace_id, name)
            assert isinstance(period, UsageQuota)
            period.quota_limit = None
        await endpoints.create(
            session, place.workspace_id, {"url": target, "subscribed_events": ["lead.won"]}, key=MASTER_KEY
        )
        await leads.set_fields(session, place.workspace_id, lead_id, {"budget": "5000"})
    stage = Stage(place, world, ids[0], lead_id, trigger={"budget": "$5000"})
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, is_local=True)

    async def begin(number: int) -> object:
        return await environment.run(
            Begin(world).begin, BeginInput(**key, execution_id=ids[number], lead_id=lead_id)
        )

    return {"begin": begin, **{name: await step(stage, environment, name, ids) for name in STEPS}}


async def step(stage: Stage, environment: ActivityEnvironment, name: str, ids: list[Any]) -> Run:
    """Prepare a step; what it changes is changed anew by every run."""
    given, carry_out = await stage.given(name, STEPS[name]), activity_of(name, stage.world)

    async def run(number: int) -> object:
        changes: dict[str, Any] = {"execution_id": ids[number]}
        if name == "ACTION_SET_LEAD_STATUS":
            config = {"status": ("QUALIFIED", "NEW")[number % 2]}
            changes["node"] = given.node.model_copy(update={"config": config})
        changes["scope"] = {**given.scope, "execution": {"id": str(ids[number])}}
        return await environment.run(carry_out, given.model_copy(update=changes))

    return run


async def outside() -> None:
    """Take mails and webhooks until nobody asks any more."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    with tempfile.TemporaryDirectory(prefix="flowtrack-bench-") as directory:
        catcher = mail.Catcher(Path(directory))
        await catcher.start(smtp_port=0, http_port=0)
        target = await asyncio.start_server(answer, "127.0.0.1", 0)
        print(catcher.smtp_port, target.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
    # What is still connected is of no more use to anybody.
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1:] == ["outside"]:
        asyncio.run(outside())
    else:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
