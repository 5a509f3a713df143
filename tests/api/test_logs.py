"""An execution's log: which lines a filter lists, and how few of the months a page has to read."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from db import logs
from db.models import ExecutionStep
from db.session import Database
from tests.api.conftest import Publish, Tenant

pytestmark = pytest.mark.anyio

BEGAN = datetime.now(UTC).replace(microsecond=0)
STEP = uuid7()
TOLD: tuple[tuple[str, str | None, str], ...] = (
    ("DEBUG", "mail", "Rendered"),
    ("INFO", None, "Execution started"),
    ("INFO", "mail", "Sent 100% to Ada_L"),
    ("WARN", "mail", "Attempt 1 failed: Mail server away"),
    ("ERROR", None, "Execution failed"),
)


@pytest.fixture
async def path(publish: Publish, acme: Tenant, database: Database) -> str:
    """Write one line a second into the log of a run."""
    form = await publish()
    ordered = await acme.client.post(f"/v1/workflows/{form.workflow_id}/executions", json={})
    execution = UUID(ordered.json()["id"])
    lines: list[dict[str, Any]] = [
        {
            "execution_id": str(execution),
            "created_at": (BEGAN + timedelta(seconds=n)).isoformat(),
            "id": str(uuid7()),
            "node_id": node,
            "visit": 1 if node else None,
            "log_level": level,
            "message": message,
        }
        for n, (level, node, message) in enumerate(TOLD)
    ]
    async with database.workspace(acme.workspace_id) as session:
        await logs.add(session, acme.workspace_id, lines, source="history")
    return f"/v1/executions/{execution}/logs"


def at(seconds: int) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat()


FILTERS: list[tuple[dict[str, str], list[int]]] = [
    ({"level": "DEBUG"}, [4, 3, 2, 1, 0]),
    ({"level": "INFO"}, [4, 3, 2, 1]),
    ({"level": "WARN"}, [4, 3]),
    ({"level": "ERROR"}, [4]),
    ({"scope": "execution"}, [4, 1]),
    ({"scope": "step"}, [3, 2, 0]),
    ({"node_id": "mail", "level": "WARN"}, [3]),
    ({"node_id": "other"}, []),
    ({"step_id": str(STEP)}, []),
    ({"search": "EXECUTION"}, [4, 1]),
    ({"search": "100%"}, [2]),
    ({"search": "a_l"}, [2]),
    ({"search": "%"}, [2]),
    ({"after": at(3)}, [4, 3]),
    ({"before": at(3)}, [2, 1, 0]),
    ({"after": at(1), "before": at(3), "level": "INFO"}, [2, 1]),
]
REFUSED = {"level": "LOUD", "after": "yesterday", "before": "0001-01-01T00:00:00+14:00", "scope": "both"}


async def test_filters_narrow_the_lines_and_what_is_none_is_named(path: str, acme: Tenant):
    for asked, found in FILTERS:
        answer = (await acme.client.get(path, params=asked)).json()["data"]
        assert [line["message"] for line in answer] == [TOLD[n][2] for n in found], asked
    for field, value in REFUSED.items():
        refused = await acme.client.get(path, params={field: value})
        assert refused.status_code == 422
        assert field in refused.text


async def test_a_steps_lines_are_also_those_of_its_attempts_and_those_that_a_reset_took_back(
    path: str, acme: Tenant, database: Database
):
    execution_id = UUID(path.split("/")[3])
    step = {"node_id": "mail", "visit": 2, "execution_id": str(execution_id), "log_level": "WARN"}
    async with database.workspace(acme.workspace_id) as session:
        row = ExecutionStep(
            workspace_id=acme.workspace_id,
            id=STEP,
            execution_id=execution_id,
            node_id="mail",
            node_type="ACTION_SEND_EMAIL",
            visit=2,
            step_number=2,
            status="completed",
        )
        session.add(row)
        await session.flush()
        for n, source in enumerate(("superseded", "attempt", "history")):
            line = {**step, "id": str(uuid7()), "created_at": at(10 + n), "message": source}
            line["execution_step_id"] = str(STEP) if source == "history" else None
            await logs.add(session, acme.workspace_id, [line], source=source)
    found = (await acme.client.get(path, params={"step_id": str(STEP)})).json()["data"]
    assert [line["message"] for line in found] == ["history", "attempt", "superseded"]


async def test_a_cursor_goes_on_within_its_filters_and_fits_no_others(path: str, acme: Tenant):
    first = (await acme.client.get(path, params={"level": "INFO", "limit": 3})).json()
    rest = {"level": "INFO", "limit": 3, "cursor": first["next_cursor"]}
    assert [line["message"] for line in (await acme.client.get(path, params=rest)).json()["data"]] == [
        "Execution started"
    ]
    assert (await acme.client.get(path, params={**rest, "level": "WARN"})).status_code == 400
