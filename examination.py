"""What `flowtrack doctor` looks at: everything that the settings point to, each by the room that knows it."""

import asyncio
import os
from asyncio import to_thread
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.clients import cluster, temporal
from activities.clients.limits import QUEUES
from api import metrics
from api.live.describer import Unseen
from api.stuck import REMEDIES, Detector
from db import blobs, doors, measures, migrate
from db.session import Database
from local import database as postgres
from local import doctor as check
from local.findings import Finding, Level, fail
from settings import Environment, Settings
from worker import TASK_QUEUE

OUTBOXES = {
    "starts": "see that `flowtrack api` runs and reaches Temporal: `start postponed` in its log says why",
    "reruns": "see that `flowtrack api` runs and reaches Temporal: `rerun postponed` in its log says why",
    "cancels": "see that `flowtrack api` runs and reaches Temporal: `cancel postponed` in its log says why",
    "wakes": "see that `flowtrack api` runs and reaches Temporal: `wake postponed` in its log says why",
    "deliveries": "see that `flowtrack worker` runs, and what the endpoints answer",
}
SILENT = timedelta(minutes=10)
AWAY = (RPCError, RuntimeError, OSError)
Connect = Callable[[str | None], Awaitable[Client]]


async def examine(settings: Settings, connect: Connect, *, data_dir: Path) -> list[Finding]:
    """Run every check; `connect` gives a client of a namespace, ours without one."""
    known = [f"FLOWTRACK_{name.upper()}" for name in Settings.model_fields]
    client = await connect(None)
    url, newest = settings.public_url, migrate.newest()
    app, schema, mail, public_url, about_temporal = await asyncio.gather(
        to_thread(
            postgres.app,
            settings.database_url,
            pool_size=settings.database_pool_size,
            hosts=settings.api_runs > 0,
        ),
        to_thread(postgres.schema, settings.admin_database_url, newest=newest),
        to_thread(check.mail, settings.smtp_url),
        to_thread(check.public_url, url, is_production=settings.env is Environment.PRODUCTION),
        _temporal(settings, client, await connect(settings.simulation_namespace)),
    )
    found = [
        check.python(),
        check.variables(os.environ, known),
        check.master_key(settings.master_key is not None),
        check.disk(data_dir),
        *app,
        schema,
        *about_temporal,
        check.callbacks(settings.closes_url),
        mail,
        public_url,
    ]
    if not any(each.level is Level.FAIL and each.subject in ("Database", "Schema") for each in found):
        found += await _rows(settings, client)
    return found


async def _temporal(settings: Settings, client: Client, imagined: Client) -> list[Finding]:
    address = settings.temporal_address
    try:
        version = await cluster.version(client)
        kept = await cluster.retention(client)
    except AWAY:
        return [check.away(address)]
    here = check.temporal(address, version, namespace=client.namespace, exists=kept is not None)
    if kept is None:
        return [here]
    found = [here, check.retention(kept)]
    for ask in (_attributes, _pollers, _builds, _upkeep):
        found += await _unless_refused(ask, settings, client)
    exists = await temporal.has_namespace(imagined)
    return [*found, check.simulations(imagined.namespace, exists=exists)]


async def _unless_refused(
    ask: Callable[[Settings, Client], Awaitable[list[Finding]]], settings: Settings, client: Client
) -> list[Finding]:
    """Ask what an older server, or a key without the right, cannot answer; that is no finding."""
    try:
        return await ask(settings, client)
    except RPCError as error:
        if error.status in (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED):
            return []
        raise


async def _attributes(settings: Settings, client: Client) -> list[Finding]:
    return [check.search_attributes(await cluster.missing_attributes(client))]


async def _pollers(settings: Settings, client: Client) -> list[Finding]:
    """Ask about every queue, and compare clocks by when the server was asked for work last."""
    workflows, activities = cluster.KINDS
    queues = [(TASK_QUEUE, workflows), *((_named(queue), activities) for queue in ("", *QUEUES))]
    seen = {queue: await cluster.polls(client, *queue) for queue in queues}
    silent = dict.fromkeys(queue for (queue, _), last in seen.items() if last is None)
    found = [check.pollers(list(silent))]
    # Nobody can have asked in the future: that much the clocks differ, and perhaps more.
    latest = max(filter(None, seen.values()), default=None)
    if latest is not None:
        found.append(check.clock("Temporal's clock", max((latest - datetime.now(UTC)).total_seconds(), 0)))
    return found


def _named(queue: str) -> str:
    return "-".join(filter(None, (TASK_QUEUE, queue)))


async def _builds(settings: Settings, client: Client) -> list[Finding]:
    found = await temporal.builds(client)
    return [check.builds(settings.build_id, found.current, found.others)]


async def _upkeep(settings: Settings, client: Client) -> list[Finding]:
    found = await cluster.upkeep(client)
    return [check.upkeep(found.missing, found.paused)]


async def _rows(settings: Settings, client: Client) -> list[Finding]:
    """Look at what the rows tell of work that waits, and of runs that do not go on."""
    database = Database(settings.database_url, pool_size=1)
    try:
        async with database.door() as session:
            counted = await measures.read(session, doubtful_after=metrics.DOUBTFUL_AFTER)
            silent = await doors.open_executions(session, silent_for=SILENT, limit=100)
            beside = await blobs.totals(session)
        found = [
            check.outbox(each.label, each.rows, each.oldest_seconds or 0, remedy=OUTBOXES[each.label])
            for each in counted
            if each.measure == "outbox"
        ]
        found.append(check.doubts(sum(each.rows for each in counted if each.measure == "doubt")))
        found.append(check.mirror(len(silent)))
        found.append(check.large_payloads(beside.blobs, beside.bytes))
        return found + await _stuck(database, client)
    except (DBAPIError, PoolTimeout) as failure:
        return [fail("Rows", check.said(failure), "check what PostgreSQL's log says")]
    finally:
        await database.close()


async def _stuck(database: Database, client: Client) -> list[Finding]:
    try:
        detector = Detector(client, database)
        found = await detector.look()
    except (Unseen, *AWAY):
        # That Temporal is away is said already.
        return []
    told = [(str(one.execution_id), one.reason, REMEDIES[one.reason]) for one in found]
    return [check.stuck(told, unexamined=detector.unexamined)]
