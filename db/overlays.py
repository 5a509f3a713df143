"""What steps add up to, node by node: of one run, and of a workflow's runs of some time (ADR 0019).

A run's id tells when it was queued (UUIDv7), so that the index that lists a workflow's runs also finds those
of a time; each run's steps are then found by theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db.models import Workflow, WorkflowExecution, WorkflowVersion
from db.session import fetch

MOST_RUNS = 20_000
"""The newest runs of a time that are added up: the answer is for somebody who waits for it."""

# One row for each node, and one for each way in which its steps went.
SUMS: LiteralString = """
    SELECT s.node_id, s.status, s.skip_reason, s.handle, count(*),
        count(DISTINCT s.about) FILTER (WHERE s.status <> 'skipped'),
        sum(s.ms) FILTER (WHERE s.status <> 'skipped'),
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY s.ms)
            FILTER (WHERE s.status IN ('completed', 'failed'))
    FROM steps s GROUP BY GROUPING SETS ((s.node_id), (s.node_id, s.status, s.skip_reason, s.handle))
"""
COLUMNS: LiteralString = """
    SELECT s.node_id, s.status, coalesce(s.skip_reason, '') AS skip_reason, coalesce(s.handle, '') AS handle,
        {about} AS about, 1000 * extract(epoch FROM s.finished_at - s.started_at)::float8 AS ms
"""
OF_RUN: LiteralString = (
    "WITH steps AS ("
    + COLUMNS.format(about="s.execution_id")
    + " FROM execution_steps s"
    + " WHERE s.workspace_id = %(workspace_id)s AND s.execution_id = %(execution_id)s) "
    + SUMS
)
THEIR_STEPS: LiteralString = (
    " FROM runs r JOIN execution_steps s ON s.workspace_id = %(workspace_id)s AND s.execution_id = r.id"
)
# As rows of two, so that only the index of the workflow's own runs fits, and not that of everybody's ids.
OF_TIME: LiteralString = """
    (e.workflow_id, e.id) >= (%(workflow_id)s, %(first)s)
    AND (e.workflow_id, e.id) < (%(workflow_id)s, %(last)s)
"""
RUNS: LiteralString = """
    WITH runs AS MATERIALIZED (
        SELECT e.id, coalesce(e.lead_id, e.id) AS about FROM workflow_executions e
        WHERE e.workspace_id = %(workspace_id)s AND e.workflow_id = %(workflow_id)s AND {which}
          AND (%(version_id)s::uuid IS NULL OR e.workflow_version_id = %(version_id)s)
        ORDER BY e.id DESC LIMIT %(limit)s),
"""
OF_WORKFLOW: LiteralString = (
    RUNS.format(which=OF_TIME)
    + "steps AS ("
    + COLUMNS.format(about="r.about")
    # What a rerun keeps was counted with the run that did it. Of skipped steps only kept ones have begun, and
    # those that somebody skipped (api/mirror/projection.py).
    + THEIR_STEPS
    + " AND s.skip_reason IS DISTINCT FROM 'kept'"
    + " AND (s.status <> 'skipped' OR s.started_at IS NULL OR s.skip_reason = 'skipped_by_user')) "
    + SUMS
)
COUNT: LiteralString = RUNS.format(which=OF_TIME).rstrip(", \n") + (" SELECT count(*) FROM runs")
WAITING: LiteralString = (
    RUNS.format(which="e.status IN ('queued', 'running', 'waiting')").rstrip(", \n")
    + " SELECT s.node_id, count(*)"
    + THEIR_STEPS
    + " AND s.status = 'running' GROUP BY s.node_id"
)


@dataclass(frozen=True)
class Sum:
    """What steps of one node add up to."""

    node_id: str
    status: str | None
    """Of those that went this way; None: of all."""
    skip_reason: str
    handle: str
    count: int
    leads: int
    """How many leads they were about, skipped ones aside; a run without one counts for itself."""
    ms: float | None
    percentiles: Sequence[float] | None
    """The median, and what 95 of a hundred take at most."""


@dataclass(frozen=True)
class Drawn:
    """The graph that is drawn on."""

    workflow_id: UUID
    version_id: UUID
    version: int
    graph: dict[str, Any]


async def of_run(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Sequence[Sum]:
    """Add up the steps of one run."""
    given = {"workspace_id": workspace_id, "execution_id": execution_id}
    return [Sum(*row) for row in await fetch(session, OF_RUN, given)]


@dataclass(frozen=True)
class Asked:
    """Which runs of a workflow are added up; those of every version, if none is named."""

    workflow_id: UUID
    since: datetime
    until: datetime
    version_id: UUID | None = None

    def values(self, workspace_id: UUID) -> dict[str, Any]:
        """Bind."""
        return {
            "workspace_id": workspace_id,
            "workflow_id": self.workflow_id,
            "version_id": self.version_id,
            "first": first_id(self.since),
            "last": first_id(self.until),
            "limit": MOST_RUNS,
        }


async def of_workflow(session: AsyncSession, workspace_id: UUID, asked: Asked) -> Sequence[Sum]:
    """Add up the steps of a workflow's runs."""
    return [Sum(*row) for row in await fetch(session, OF_WORKFLOW, asked.values(workspace_id))]


async def runs(session: AsyncSession, workspace_id: UUID, asked: Asked) -> int:
    """Count the runs that are added up."""
    ((count,),) = await fetch(session, COUNT, asked.values(workspace_id))
    return int(count)


async def waiting(session: AsyncSession, workspace_id: UUID, asked: Asked) -> dict[str, int]:
    """Count the open steps of each node, whenever their runs began."""
    return dict(await fetch(session, WAITING, asked.values(workspace_id)))


async def drawn_by_run(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Drawn | None:
    """Read the graph that a run runs."""
    run = WorkflowExecution
    query = select(
        run.workflow_id, WorkflowVersion.id, WorkflowVersion.version, WorkflowVersion.graph
    ).join_from(
        run,
        WorkflowVersion,
        (WorkflowVersion.workspace_id == run.workspace_id) & (WorkflowVersion.id == run.workflow_version_id),
    )
    query = query.where(run.workspace_id == workspace_id, run.id == execution_id)
    found = (await session.execute(query)).one_or_none()
    return Drawn(*found) if found else None


async def drawn_by_workflow(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, version: int | None
) -> Drawn | None:
    """Read a version's graph, of the published one if none is named; None if there is none."""
    of, known = WorkflowVersion, Workflow
    which = known.published_version_id == of.id if version is None else of.version == version
    query = (
        select(of.workflow_id, of.id, of.version, of.graph)
        .join_from(of, known, (of.workspace_id == known.workspace_id) & (of.workflow_id == known.id))
        .where(known.workspace_id == workspace_id, known.id == workflow_id, known.deleted_at.is_(None), which)
    )
    found = (await session.execute(query)).one_or_none()
    return Drawn(*found) if found else None


def first_id(moment: datetime) -> UUID:
    """Give the smallest id that a row of this moment can have (RFC 9562, UUIDv7)."""
    milliseconds = int(moment.astimezone(UTC).timestamp() * 1000)
    return UUID(int=max(milliseconds, 0) << 80)
