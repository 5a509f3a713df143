"""Many runs, no hint at all, mirrors that are killed (-9) in turn, and operators who end and reset."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError

from api.mirror.mirror import Mirror
from tests.api.mirror.killed import Mirrors
from tests.api.mirror.stage import START, Runs, graph, id_of, node, reset, until
from workflows.graph import Graph

CLOSED = {
    WorkflowExecutionStatus.COMPLETED: ("completed", None),
    WorkflowExecutionStatus.FAILED: ("failed", "node_failed"),
    WorkflowExecutionStatus.TERMINATED: ("failed", "terminated"),
    WorkflowExecutionStatus.CANCELED: ("cancelled", "cancelled"),
}
GRAPHS: dict[str, Graph] = {
    "line": graph(START, node("a"), node("b"), edges=["start>a", "a>b"]),
    "nap": graph(START, node("a", does={"sleeps": 1.2}), node("b"), edges=["start>a", "a>b"]),
    "mail": graph(
        START,
        node("a", "ACTION_SEND_EMAIL", does={"fails": 1}, config={"retry": {"initialSeconds": 0.1}}),
        node("b"),
        edges=["start>a", "a>b"],
    ),
    "fails": graph(START, node("a", does={"fails": 9, "final": True}), edges=["start>a"]),
    "choice": graph(
        START,
        node("c", "LOGIC_CONDITION", does={"handles": ("condition_true",)}),
        node("a"),
        node("b"),
        edges=["start>c", "c:condition_true>a", "c:condition_false>b"],
    ),
}
STEPS = {
    "line": {"start:1": "completed", "a:1": "completed", "b:1": "completed"},
    "nap": {"start:1": "completed", "a:1": "completed", "b:1": "completed"},
    "mail": {"start:1": "completed", "a:1": "completed", "b:1": "completed"},
    "choice": {"start:1": "completed", "c:1": "completed", "a:1": "completed", "b:1": "skipped"},
}
"""What a completed run of each leaves."""
DOUBLES = (
    "SELECT count(*) - count(DISTINCT (execution_id, node_id, visit)) FROM execution_steps",
    "SELECT count(*) - count(DISTINCT (execution_id, run_id, event_id, node_id, visit, message))"
    " FROM execution_logs",
    "SELECT count(*) - count(DISTINCT execution_id) FROM mirror_cursors",
    "SELECT count(*) - count(DISTINCT execution_id) FROM execution_logs"
    " WHERE message = 'Run started' AND source = 'history'",
)
ZERO = (
    "DELETE FROM execution_logs RETURNING 1",
    "DELETE FROM execution_steps RETURNING 1",
    "DELETE FROM mirror_cursors RETURNING 1",
    "UPDATE workflow_executions SET status = 'queued', status_reason = NULL, temporal_run_id = NULL,"
    " started_at = NULL, finished_at = NULL, output_data = NULL, error = NULL RETURNING 1",
)
"""As if no mirror had ever looked."""


@dataclass
class Chaos:
    """One storm, and what it did."""

    runs: Runs
    database_url: str
    temporal_address: str
    log: Path
    seed: str
    count: int
    kill_every: float = 2.0
    abreast: int = 40
    struck_share: float = 0.1
    did: Counter[str] = field(default_factory=Counter)
    kinds: dict[UUID, str] = field(default_factory=dict)

    async def rage(self) -> None:
        """Go through it; afterwards every run has closed, and the rows say so."""
        dice, slots = random.Random(self.seed), asyncio.Semaphore(self.abreast)
        lives = [self._live(random.Random(dice.random()), slots) for _ in range(self.count)]
        where = self.runs.database, self.database_url, self.temporal_address, self.log
        mirrors = Mirrors(*where, random.Random(dice.random()))
        async with mirrors.going(kill_every=self.kill_every):
            closed = dict(await asyncio.gather(*lives))
            await until(lambda: self._shows(closed), seconds=60 + self.count / 10)
        self.did.update({f"killed {where}": times for where, times in mirrors.killed.items()})

    async def check(self) -> None:
        """Compare with what stands in Temporal, and with what is made of it from zero."""
        assert "ERROR" not in self.log.read_text(), self.log.read_text()
        for execution_id, kind in self.kinds.items():
            row = await self.runs.row(execution_id)
            if row.status == "completed":
                steps = await self.runs.steps(execution_id)
                assert {key: step.status for key, step in steps.items()} == STEPS[kind], self.seed
        for statement in DOUBLES:
            assert await self._rows(statement) == [(0,)], (statement, self.seed)
        before = {each: await self.runs.everything(each) for each in self.kinds}
        for statement in ZERO:
            assert await self._rows(statement)
        late = Mirror(self.runs.client, self.runs.database, database_url=self.database_url)
        slots = asyncio.Semaphore(8)

        async def compare(execution_id: UUID) -> None:
            async with slots:
                assert await late.rebuild(execution_id)
                assert await self.runs.everything(execution_id) == before[execution_id], self.seed

        await asyncio.gather(*map(compare, before))

    # ── what happens

    async def _live(self, dice: random.Random, slots: asyncio.Semaphore) -> tuple[UUID, tuple[Any, ...]]:
        """Lead one run from its start to its last end; return what Temporal says of it."""
        async with slots:
            kind = dice.choice(list(GRAPHS))
            handle = await self.runs.start(GRAPHS[kind])
            self.kinds[id_of(handle)] = kind
            if dice.random() < self.struck_share:
                await asyncio.sleep(dice.random() * 1.5)
                await self._strike(dice.choice(("terminate", "cancel", "reset", "reset")), handle)
            return id_of(handle), await self._closed(handle)

    async def _strike(self, how: str, handle: WorkflowHandle[Any, Any]) -> None:
        current = self.runs.client.get_workflow_handle(handle.id)
        try:
            if how == "terminate":
                await current.terminate(reason="from outside")
            elif how == "cancel":
                await current.cancel(reason="from outside")
            else:
                await until(lambda: self._reset(handle), seconds=120)
        except RPCError:
            # It is over already.
            how = f"{how} in vain"
        self.did[how] += 1

    async def _reset(self, handle: WorkflowHandle[Any, Any]) -> str:
        """Reset a run; not yet if it has done no workflow task."""
        try:
            return await reset(self.runs, handle)
        except RPCError:
            return ""

    async def _closed(self, handle: WorkflowHandle[Any, Any]) -> tuple[Any, ...]:
        current = self.runs.client.get_workflow_handle(handle.id)
        while True:
            told = await current.describe()
            if told.status in CLOSED:
                return (told.run_id, *CLOSED[told.status])
            await asyncio.sleep(0.3)

    # ── what is seen

    async def _shows(self, closed: dict[UUID, tuple[Any, ...]]) -> bool:
        statement = "SELECT id, temporal_run_id::text, status, status_reason FROM workflow_executions"
        return {row[0]: tuple(row[1:]) for row in await self._rows(statement)} == closed

    async def _rows(self, statement: str) -> list[Any]:
        async with self.runs.database.workspace(self.runs.workspace_id) as session:
            return [tuple(row) for row in await session.execute(text(statement))]
