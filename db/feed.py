"""What changed of a run since somebody last looked: exactly, and without a column for it.

A look is named by its snapshot (`pg_current_snapshot`): a row has changed since if the transaction that wrote
it was not visible to that look. No clock takes part, and no commit that was under way then is missed. Writers
use no savepoints: their inner transactions would not stand in a snapshot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from db.session import fetch

MOST_STEPS = 500
"""Steps in one answer."""
MOST_RUNS = 500
"""Executions in one answer of what changed."""
NEWEST = 100
"""Executions in a workspace's snapshot."""
LONGEST_WRITE = timedelta(minutes=10)
"""Surely longer than any transaction: what it changes bears the time at which it began, or later."""
LATEST_CLOSE = timedelta(hours=1)
"""So much after its end, which Temporal dates, a run's row says so at the latest; normally within seconds."""

# A row's xmin is the lower half of its writer's id; the upper half is that of the newest id, or one less.
CHANGED: LiteralString = """
    NOT pg_visible_in_snapshot(
        (next.id - ((next.id - {row}.xmin::text::bigint) & 4294967295))::text::xid8, %(since)s::pg_snapshot)
"""
NEXT: LiteralString = "(SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS id) AS next"
RUN: LiteralString = """
    jsonb_build_object('id', e.id, 'workflow_id', e.workflow_id, 'version', v.version,
        'lead_id', e.lead_id, 'trigger_type', e.trigger_type, 'status', e.status,
        'status_reason', e.status_reason, 'error', e.error, 'rerun_of', e.rerun_of,
        'cause_execution_id', e.cause_execution_id, 'queued_at', e.queued_at,
        'started_at', e.started_at, 'finished_at', e.finished_at)
"""
VERSION: LiteralString = """
    JOIN workflow_versions v ON v.workspace_id = e.workspace_id AND v.workflow_id = e.workflow_id
        AND v.id = e.workflow_version_id
"""
STEP: LiteralString = """
    jsonb_build_object('id', s.id, 'step_number', s.step_number, 'node_id', s.node_id,
        'node_type', s.node_type, 'label', s.label, 'visit', s.visit, 'status', s.status,
        'skip_reason', s.skip_reason, 'handle', s.handle, 'attempt', s.attempt, 'error', s.error,
        'started_at', s.started_at, 'finished_at', s.finished_at)
"""
MINE: LiteralString = "s.workspace_id = %(workspace_id)s AND s.execution_id = %(execution_id)s"
STEPS: LiteralString = """
    SELECT coalesce(jsonb_agg(found.step ORDER BY found.number, found.id), '[]') FROM (
        SELECT {step} AS step, s.step_number AS number, s.id FROM execution_steps s{beside}
        WHERE {mine} AND {which} ORDER BY s.step_number DESC, s.id DESC LIMIT %(limit)s) found
"""
WHOLE: LiteralString = (
    "SELECT pg_current_snapshot()::text, true, e.temporal_run_id, "
    + RUN
    + ", ("
    + STEPS.format(step=STEP, beside="", mine=MINE, which="true")
    + "), (SELECT count(*) FROM execution_steps s WHERE "
    + MINE
    + ") FROM workflow_executions e"
    + VERSION
    + "WHERE e.workspace_id = %(workspace_id)s AND e.id = %(execution_id)s"
)
KNOWN: LiteralString = "pg_snapshot_xmax(%(since)s::pg_snapshot) <= pg_snapshot_xmax(pg_current_snapshot())"
SINCE: LiteralString = (
    "SELECT pg_current_snapshot()::text, "
    + KNOWN
    + ", e.temporal_run_id, "
    + RUN
    + ", ("
    + STEPS.format(step=STEP, beside=", " + NEXT, mine=MINE, which=CHANGED.format(row="s"))
    + "), 0 FROM workflow_executions e"
    + VERSION
    + "WHERE e.workspace_id = %(workspace_id)s AND e.id = %(execution_id)s"
)
RUNS: LiteralString = """
    SELECT coalesce(jsonb_agg(found.run ORDER BY found.id DESC), '[]') FROM (
        SELECT {run} AS run, e.id FROM workflow_executions e {version}
        WHERE e.workspace_id = %(workspace_id)s AND {which} ORDER BY e.id DESC LIMIT %(limit)s) found
"""
# The transaction's beginning, so that it is no later than the snapshot.
PLACE: LiteralString = "pg_current_snapshot()::text, now()"
NEWEST_RUNS: LiteralString = (
    "SELECT " + PLACE + ", (" + RUNS.format(run=RUN, version=VERSION, which="true") + ")"
)
# What changed is open, or has closed since: two short lists out of all runs. They come first: in the order of
# the ids a planner might read every run. A sweep that only passed over an open row left its updated_at.
RUNS_SINCE: LiteralString = (
    """
    WITH changed AS MATERIALIZED (
        SELECT e.id FROM workflow_executions e, """
    + NEXT
    + """
        WHERE e.workspace_id = %(workspace_id)s
            AND (e.status IN ('queued', 'running', 'waiting') AND e.updated_at >= %(written_after)s
                OR e.finished_at >= %(finished_after)s)
            AND """
    + CHANGED.format(row="e")
    + "LIMIT %(limit)s) SELECT "
    + PLACE
    + ", "
    + KNOWN
    + ", ("
    + RUNS.format(run=RUN, version=VERSION, which="e.id IN (SELECT id FROM changed)")
    + ")"
)
THESE_RUNS: LiteralString = RUNS.format(run=RUN, version=VERSION, which="e.id = ANY(%(ids)s::uuid[])")
STATUS = (
    "SELECT status FROM workflow_executions WHERE workspace_id = %(workspace_id)s AND id = %(execution_id)s"
)


@dataclass(frozen=True)
class Look:
    """A run, and all of its steps, or those that changed."""

    snapshot: str
    temporal_run_id: str | None
    run: dict[str, Any]
    steps: Sequence[dict[str, Any]]
    """In the order in which they were decided; without input and output, which are read one by one."""
    step_count: int = 0
    """Of a whole look: there may be more than are shown, and then the first ones are missing."""


@dataclass(frozen=True)
class Place:
    """A moment of the database: whatever was committed then is seen from there."""

    snapshot: str
    at: datetime
    """By the database's clock; no later than the snapshot."""


@dataclass(frozen=True)
class Overview:
    """Some of a workspace's runs, and from where they were seen."""

    place: Place
    runs: Sequence[dict[str, Any]]


async def run(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Look | None:
    """Look at a run and its newest steps; None if there is no such run."""
    given = {"workspace_id": workspace_id, "execution_id": execution_id, "limit": MOST_STEPS}
    return _look(await fetch(session, WHOLE, given))


async def run_since(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, *, since: str
) -> Look | None:
    """Look at what changed of a run; None if there is no such run, or more changed than one answer holds.

    None, too, if `since` was no look at this database.
    """
    given = {"workspace_id": workspace_id, "execution_id": execution_id, "since": since}
    look = _look(await fetch(session, SINCE, {**given, "limit": MOST_STEPS + 1}))
    return look if look is not None and len(look.steps) <= MOST_STEPS else None


async def run_status(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> str | None:
    """Tell how a run stands; None if there is no such run."""
    found = await fetch(session, STATUS, {"workspace_id": workspace_id, "execution_id": execution_id})
    return found[0][0] if found else None


async def newest(session: AsyncSession, workspace_id: UUID) -> Overview:
    """Look at a workspace's newest runs, the newest first."""
    ((*place, found),) = await fetch(session, NEWEST_RUNS, {"workspace_id": workspace_id, "limit": NEWEST})
    return Overview(Place(*place), found)


async def runs_since(session: AsyncSession, workspace_id: UUID, *, since: Place) -> Overview | None:
    """Look at what changed of a workspace's runs, the newest first.

    None if more changed than one answer holds, or if `since` was no look at this database.
    """
    given = {
        "workspace_id": workspace_id,
        "since": since.snapshot,
        "written_after": since.at - LONGEST_WRITE,
        "finished_after": since.at - LATEST_CLOSE,
        "limit": MOST_RUNS + 1,
    }
    ((*place, is_known, found),) = await fetch(session, RUNS_SINCE, given)
    return Overview(Place(*place), found) if is_known and len(found) <= MOST_RUNS else None


async def these(session: AsyncSession, workspace_id: UUID, ids: Sequence[UUID]) -> Sequence[dict[str, Any]]:
    """Look at some runs, the newest first."""
    given = {"workspace_id": workspace_id, "ids": list(ids), "limit": len(ids)}
    ((found,),) = await fetch(session, THESE_RUNS, given)
    runs: Sequence[dict[str, Any]] = found
    return runs


def _look(found: list[Any]) -> Look | None:
    if not found:
        return None
    ((snapshot, is_known, temporal_run_id, row, steps, count),) = found
    return Look(snapshot, temporal_run_id, row, steps, count) if is_known else None
