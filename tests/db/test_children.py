"""Runs that are waited for: which of them somebody must be told of, or must be ended."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from db import children, doors
from db.doors import AwaitedExecution
from db.session import Database
from tests.db.conftest import Place, queued

pytestmark = pytest.mark.anyio

# Tests may run long after this is read.
JUST_NOW = datetime.now(UTC) + timedelta(hours=1)
LONG_AGO = datetime.now(UTC) - timedelta(minutes=5)
ENDED = {"status": "completed", "dispatched_at": LONG_AGO}


@pytest.mark.parametrize(
    ("child", "parent", "is_found"),
    [
        ({"status": "waiting"}, "running", False),
        ({"status": "queued"}, "failed", True),
        ({"status": "running"}, "completed", True),
        ({**ENDED, "finished_at": JUST_NOW}, "waiting", False),
        ({**ENDED, "finished_at": LONG_AGO}, "waiting", True),
        ({**ENDED, "status": "failed", "status_reason": "terminated"}, "waiting", True),
        ({"status": "cancelled"}, "waiting", True),
        ({"status": "cancelled", "told_at": JUST_NOW}, "waiting", False),
        ({**ENDED, "finished_at": LONG_AGO, "collected_at": LONG_AGO}, "waiting", False),
        ({**ENDED, "finished_at": LONG_AGO}, "cancelled", True),
        ({"status": "running", "awaited_step": None}, "failed", False),
    ],
)
async def test_only_what_is_out_of_touch_is_found(
    database: Database, here: Place, child: dict[str, Any], parent: str, is_found: bool
):
    waiting = queued(here, id=uuid7(), status=parent)
    awaited = queued(here, id=uuid7(), cause_execution_id=waiting.id, **{"awaited_step": "call:1", **child})
    async with database.workspace(here.workspace_id) as session:
        session.add(waiting)
        await session.flush()
        session.add(awaited)
        await session.flush()
        is_open = child["status"] in ("queued", "running", "waiting")
        expected = AwaitedExecution(
            workspace_id=here.workspace_id,
            execution_id=awaited.id,
            is_open=is_open,
            parent_id=waiting.id,
            parent_is_open=parent in ("running", "waiting"),
        )
        listed = await children.awaited_by(session, here.workspace_id, waiting.id)
        assert list(listed) == ([awaited.id] if is_open and awaited.awaited_step else [])
    async with database.door() as session:
        assert await doors.awaited_executions(session) == ([expected] if is_found else [])
        assert await doors.awaited_executions(session, after=awaited.id) == []
    async with database.workspace(here.workspace_id) as session:
        await children.collect(session, here.workspace_id, awaited.id)
    async with database.door() as session:
        assert await doors.awaited_executions(session) == []
