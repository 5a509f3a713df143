"""Large payloads that no history names any more (ADR 0023).

They go with their whole execution, and only if all says that nothing of it is left to read: its row says that
it is over, and for longer than Temporal keeps closed runs; and Temporal, asked, knows no run of it.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from temporalio.client import Client

from activities.clients import cluster, runs
from db import blobs
from db.blobs import Ended
from db.session import Database

log = structlog.get_logger()

MARGIN = timedelta(days=1)
"""Beyond the retention: Temporal deletes when it finds the time."""
BATCH = 100
AT_ONCE = 8
PATIENCE = 120.0
"""Seconds for one sweep; the next one begins anew."""


async def sweep(database: Database, temporal: Client, *, margin: timedelta = MARGIN) -> int:
    """Delete the large payloads of executions that Temporal has forgotten; say of how many.

    Raises RPCError, RuntimeError or DBAPIError in an outage.
    """
    retention = await cluster.retention(temporal)
    if retention is None:
        # Whoever has no namespace knows no run at all; that proves nothing.
        log.error("large payloads not swept: their namespace is missing", namespace=temporal.namespace)
        return 0
    clock = asyncio.get_running_loop().time
    swept, after, until = 0, None, clock() + PATIENCE
    while clock() < until:
        async with database.door() as session:
            found = await blobs.ended(session, over_for=retention + margin, after=after, limit=BATCH)
        swept += await _forget(database, await _forgotten(temporal, found))
        if len(found) < BATCH:
            break
        after = found[-1].execution_id
    return swept


async def _forgotten(temporal: Client, found: Sequence[Ended]) -> list[Ended]:
    """Ask Temporal which of them it knows no run of."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def is_known(one: Ended) -> bool:
        async with turns:
            return await runs.is_known(temporal, one.execution_id)

    known = await asyncio.gather(*map(is_known, found))
    return [one for one, is_there in zip(found, known, strict=True) if not is_there]


async def _forget(database: Database, gone: Sequence[Ended]) -> int:
    by_workspace: dict[UUID, list[UUID]] = {}
    for one in gone:
        by_workspace.setdefault(one.workspace_id, []).append(one.execution_id)
    for workspace_id, execution_ids in by_workspace.items():
        async with database.workspace(workspace_id) as session:
            await blobs.forget(session, workspace_id, execution_ids)
    return len(gone)
