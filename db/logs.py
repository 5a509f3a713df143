"""Log lines of executions: told by history, of attempts it does not keep, of what a reset superseded.

History's are of the run that its execution names, each by an id made of its event; only others name a run.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from db.jsonb import storable
from db.models import ExecutionLog
from db.session import Single, fetch, to_json

AT_ONCE = 2_000
"""Lines in one statement. COPY is refused under row-level security, and would save a fifth (ADR 0021)."""

ADD = """
    INSERT INTO execution_logs (
        workspace_id, execution_id, created_at, id, execution_step_id, node_id, visit, log_level, message,
        data, source, run_id, event_id, attempt)
    SELECT %(workspace_id)s, r.execution_id, r.created_at, r.id, r.execution_step_id, r.node_id, r.visit,
        r.log_level, r.message, r.data, %(source)s, CASE WHEN %(source)s <> 'history' THEN r.run_id END,
        CASE WHEN %(source)s <> 'history' THEN r.event_id END, r.attempt
    FROM jsonb_to_recordset(%(rows)s) AS r(
        execution_id uuid, created_at timestamptz, id uuid, execution_step_id uuid, node_id text,
        visit integer, log_level text, message text, data jsonb, run_id text, event_id bigint,
        attempt integer)
    WHERE EXISTS (
        SELECT FROM workflow_executions e WHERE e.workspace_id = %(workspace_id)s AND e.id = r.execution_id)
    ON CONFLICT DO NOTHING
"""


async def add(
    session: AsyncSession | Single, workspace_id: UUID, rows: Sequence[dict[str, Any]], *, source: str
) -> None:
    """Write lines; those of an execution that is gone are dropped. A `Single` writes each part by itself."""
    for start in range(0, len(rows), AT_ONCE):
        part = Jsonb(storable(rows[start : start + AT_ONCE]), dumps=to_json)
        await fetch(session, ADD, {"workspace_id": workspace_id, "source": source, "rows": part})


async def forget(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> None:
    """Delete the lines that the current run's history can tell again; all others stay."""
    await session.execute(
        delete(ExecutionLog).where(
            ExecutionLog.workspace_id == workspace_id,
            ExecutionLog.execution_id == execution_id,
            ExecutionLog.source == "history",
        )
    )
