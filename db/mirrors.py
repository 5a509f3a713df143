"""The mirror's place in an execution's history: one cursor per execution, moved by compare-and-set."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import delete, select
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession

from db import listening, steps
from db.models import MirrorCursor
from db.session import Single, fetch, to_json

CHANNEL = "flowtrack_hints"
"""Where workers say that an execution moved on: its id, that of its run, and `over` at its end."""
OVER = "over"


@dataclass(frozen=True)
class Hint:
    """An execution moved on, in this run if that is known."""

    execution_id: UUID
    run_id: str = ""
    is_over: bool = field(default=False, compare=False)
    """Temporal has the run's end: there is nothing to wait for."""


@dataclass(frozen=True)
class Position:
    """Up to which event of which run an execution is mirrored."""

    run_id: str
    event_id: int


@dataclass(frozen=True)
class Cursor:
    """Where the mirror stands, and what it needs to go on from there."""

    position: Position
    state: dict[str, Any]
    closed: bool


@dataclass(frozen=True)
class Page:
    """What was read up to a cursor, as rows of JSON."""

    workflow_id: UUID
    cursor: Cursor
    execution: dict[str, Any]
    steps: list[dict[str, Any]]
    logs: list[dict[str, Any]]


# One statement, so that a run costs one round trip; nothing is written unless the cursor moved. There is one
# cursor for each execution, whichever run two mirrors saw first, and a step's id is made of its key. Columns
# that `execution` does not name keep their values. The node is looked up in the draft: one that was deleted
# since leaves the step without it, as its deletion would have. Of a step's input and output is written what
# neither the version nor the run's row tells (db/steps.py).
WRITE = """
    WITH moved AS ({moved}),
    told AS (
        UPDATE workflow_executions e SET
            (status, status_reason, output_data, error, temporal_run_id, started_at, finished_at) = (
                SELECT p.status, p.status_reason, p.output_data, p.error, p.temporal_run_id, p.started_at,
                    p.finished_at
                FROM jsonb_populate_record(e, %(execution)s) p),
            mirrored_at = clock_timestamp(), updated_at = clock_timestamp()
        WHERE e.workspace_id = %(workspace_id)s AND e.id = %(execution_id)s AND EXISTS (SELECT FROM moved)),
    known AS MATERIALIZED (
        SELECT e.trigger_data, v.inputs FROM workflow_executions e
        JOIN workflow_versions v ON v.workspace_id = e.workspace_id AND v.workflow_id = e.workflow_id
            AND v.id = e.workflow_version_id
        WHERE e.workspace_id = %(workspace_id)s AND e.id = %(execution_id)s),
    base AS MATERIALIZED (SELECT b.key AS node_id, b.value AS input FROM known, jsonb_each(known.inputs) b),
    stepped AS (
        INSERT INTO execution_steps AS s (
            workspace_id, execution_id, workflow_node_id, id, node_id, node_type, label, visit, step_number,
            status, skip_reason, handle, attempt, input_data, output_data, error, started_at, finished_at)
        SELECT %(workspace_id)s, %(execution_id)s, n.id, r.id, r.node_id, r.node_type, r.label, r.visit,
            r.step_number, r.status, r.skip_reason, r.handle, r.attempt, {input}, {output}, r.error,
            r.started_at, r.finished_at
        FROM jsonb_populate_recordset(NULL::execution_steps, %(steps)s) r
        LEFT JOIN known ON true LEFT JOIN base ON base.node_id = r.node_id
        LEFT JOIN workflow_nodes n ON n.workspace_id = %(workspace_id)s AND n.workflow_id = %(workflow_id)s
            AND n.react_flow_node_id = r.node_id
        WHERE EXISTS (SELECT FROM moved)
        ON CONFLICT (workspace_id, execution_id, id) DO UPDATE SET
            status = excluded.status, step_number = excluded.step_number, handle = excluded.handle,
            skip_reason = excluded.skip_reason, attempt = excluded.attempt, error = excluded.error,
            input_data = excluded.input_data, output_data = excluded.output_data,
            started_at = excluded.started_at, finished_at = excluded.finished_at),
    logged AS (
        INSERT INTO execution_logs (
            workspace_id, execution_id, created_at, id, execution_step_id, node_id, visit, log_level, message,
            data, source)
        SELECT %(workspace_id)s, %(execution_id)s, r.created_at, r.id, r.execution_step_id, r.node_id,
            r.visit, r.log_level, r.message, r.data, 'history'
        FROM jsonb_populate_recordset(NULL::execution_logs, %(logs)s) r
        WHERE EXISTS (SELECT FROM moved)
        ON CONFLICT DO NOTHING)
    SELECT count(*) FROM moved
"""
FIRST = """
    INSERT INTO mirror_cursors (workspace_id, execution_id, run_id, last_event_id, state, closed)
    VALUES (%(workspace_id)s, %(execution_id)s, %(run_id)s, %(event_id)s, %(state)s, %(closed)s)
    ON CONFLICT DO NOTHING RETURNING 1
"""
NEXT = """
    UPDATE mirror_cursors SET
        run_id = %(run_id)s, last_event_id = %(event_id)s, state = %(state)s, closed = %(closed)s
    WHERE workspace_id = %(workspace_id)s AND execution_id = %(execution_id)s
        AND run_id = %(old_run_id)s AND last_event_id = %(old_event_id)s
    RETURNING 1
"""
# Whoever writes takes the cursor first and the execution's row after it; in the other order a whole story and
# a write of the same run would wait for each other. A cursor that is not there yet is made, to be held, too.
HOLD = """
    INSERT INTO mirror_cursors AS c (workspace_id, execution_id, run_id)
    VALUES (%(workspace_id)s, %(execution_id)s, '')
    ON CONFLICT (workspace_id, execution_id) DO UPDATE SET run_id = c.run_id
    RETURNING c.run_id, c.last_event_id
"""
LEAN = {
    "input": steps.lean_input("r.input_data", "base.input"),
    "output": steps.lean_output("r.output_data", "known.trigger_data"),
}
CREATE, MOVE = WRITE.format(moved=FIRST, **LEAN), WRITE.format(moved=NEXT, **LEAN)


async def load(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Cursor | None:
    """Read an execution's cursor."""
    found = (
        await session.execute(
            select(MirrorCursor.run_id, MirrorCursor.last_event_id, MirrorCursor.state, MirrorCursor.closed)
            .where(MirrorCursor.workspace_id == workspace_id, MirrorCursor.execution_id == execution_id)
            .limit(1)
        )
    ).one_or_none()
    if found is None:
        return None
    return Cursor(Position(found.run_id, found.last_event_id), found.state, found.closed)


async def hold(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Position | None:
    """Hold an execution's cursor until the transaction ends, and say where it is; None if there was none.

    Then one is left that is nowhere: `forget` it, or roll back.
    """
    given = {"workspace_id": workspace_id, "execution_id": execution_id}
    ((run_id, event_id),) = await fetch(session, HOLD, given)
    return Position(run_id, event_id) if run_id else None


async def write(
    session: AsyncSession | Single,
    workspace_id: UUID,
    execution_id: UUID,
    *,
    old: Position | None,
    page: Page,
) -> bool:
    """Move the cursor and write what was read up to it; False, and nothing is written, if it is not at `old`.

    Without an `old` the cursor is the execution's first.
    """
    values = {
        "workspace_id": workspace_id,
        "execution_id": execution_id,
        "workflow_id": page.workflow_id,
        "execution": page.execution,
        "steps": Jsonb(page.steps, dumps=to_json),
        "logs": Jsonb(page.logs, dumps=to_json),
        "run_id": page.cursor.position.run_id,
        "event_id": page.cursor.position.event_id,
        "state": page.cursor.state,
        "closed": page.cursor.closed,
    }
    if old is not None:
        values |= {"old_run_id": old.run_id, "old_event_id": old.event_id}
    ((moved,),) = await fetch(session, CREATE if old is None else MOVE, values)
    return bool(moved)


async def forget(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> None:
    """Delete an execution's cursor: every mirror that is reading it will have to start again."""
    await session.execute(
        delete(MirrorCursor).where(
            MirrorCursor.workspace_id == workspace_id, MirrorCursor.execution_id == execution_id
        )
    )


async def hint(session: AsyncSession | Single, hints: Iterable[Hint]) -> None:
    """Tell every mirror that these executions moved on, once the transaction commits; a door's will do."""
    told = [f"{hint.execution_id} {hint.run_id} {OVER if hint.is_over else ''}" for hint in hints]
    given = {"channel": CHANNEL, "hints": told}
    await fetch(session, "SELECT pg_notify(%(channel)s, hint) FROM unnest(%(hints)s::text[]) AS hint", given)


async def listen(url: str | URL) -> AsyncGenerator[Hint | None]:
    """Yield None once hints are heard, and then every hint; ends with the connection."""
    async with aclosing(listening.notices(url, CHANNEL, name="flowtrack mirror")) as heard:
        async for payload in heard:
            if payload is None:
                yield None
                continue
            with suppress(ValueError):
                execution_id, run_id, end = payload.split(" ")
                yield Hint(UUID(execution_id), run_id, end == OVER)
