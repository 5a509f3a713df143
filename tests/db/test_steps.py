"""Rows of steps hold what neither the version nor the run tells, and are read whole."""

from typing import Any
from uuid import UUID, uuid5

import pytest
from sqlalchemy import select, text
from uuid_utils.compat import uuid7

from db import mirrors, steps
from db.mirrors import Cursor, Page, Position
from db.models import ExecutionStep, WorkflowExecution, WorkflowVersion
from db.session import Database
from tests.db.conftest import Place, queued

pytestmark = pytest.mark.anyio

MAIL = {"emailSubject": "Hi {{ lead.name }}", "emailBody": "<p>Thanks.</p>", "cc": None, "trackOpens": False}
ANSWERS = {"email": "ada@example.com", "budget": 5000}


async def versioned(database: Database, place: Place, inputs: dict[str, Any] | None) -> WorkflowExecution:
    """Queue a run of a version that knows these inputs."""
    version = WorkflowVersion(
        workspace_id=place.workspace_id,
        id=uuid7(),
        workflow_id=place.workflow_id,
        version=2,
        content_hash="1",
        graph={"nodes": [], "edges": []},
        inputs=inputs,
    )
    run = queued(place, id=uuid7(), workflow_version_id=version.id, trigger_data=ANSWERS)
    async with database.workspace(place.workspace_id) as session:
        session.add(version)
        await session.flush()
        session.add(run)
    return run


def step(run: WorkflowExecution, number: int, node_id: str, **columns: Any) -> dict[str, Any]:
    """Give a step's row as the mirror writes it."""
    return {
        "id": str(uuid5(run.id, f"{node_id}:1")),
        "node_id": node_id,
        "node_type": "ACTION_SEND_EMAIL",
        "visit": 1,
        "attempt": 1,
        "step_number": number,
        "status": "completed",
        **columns,
    }


async def mirrored(database: Database, run: WorkflowExecution, *rows: dict[str, Any]) -> None:
    """Write rows of steps, and move the cursor."""
    page = Page(
        workflow_id=run.workflow_id,
        cursor=Cursor(Position("r", 1), {}, closed=False),
        execution={},
        steps=list(rows),
        logs=[],
    )
    async with database.workspace(run.workspace_id) as session:
        assert await mirrors.write(session, run.workspace_id, run.id, old=None, page=page)


async def kept(database: Database, run: WorkflowExecution) -> dict[str, tuple[str | None, str | None]]:
    """Read what stands in the rows."""
    query = "SELECT node_id, input_data::text, output_data::text FROM execution_steps"
    async with database.workspace(run.workspace_id) as session:
        return {node: (given, got) for node, given, got in await session.execute(text(query))}


async def shown(database: Database, run: WorkflowExecution) -> dict[str, tuple[Any, Any]]:
    """Read the steps whole, and see that to fill them in is no change."""
    async with database.workspace(run.workspace_id) as session:
        found = await steps.page(session, run.workspace_id, run.id, limit=100)
        assert not session.dirty
        return {each.node_id: (each.input_data, each.output_data) for each in found}


async def test_a_row_keeps_what_templates_made_of_the_versions_input(database: Database, here: Place):
    run = await versioned(database, here, {"mail": MAIL, "still": MAIL})
    rendered = {**MAIL, "emailSubject": "Hi Ada"}
    await mirrored(
        database,
        run,
        step(run, 1, "mail", input_data=rendered),
        step(run, 2, "still", input_data=MAIL),
        step(run, 3, "unknown", input_data=rendered),
        step(run, 4, "begun"),
    )
    stored = await kept(database, run)
    assert stored["mail"][0] == '{"emailSubject": "Hi Ada"}'
    assert stored["still"][0] == "{}"
    assert stored["begun"] == (None, None)
    assert {node: given for node, (given, _) in (await shown(database, run)).items()} == {
        "mail": rendered,
        "still": MAIL,
        "unknown": rendered,
        "begun": None,
    }


@pytest.mark.parametrize(
    "given", ["***", {"emailSubject": "of another release"}, {**MAIL, "more": [1, None]}]
)
async def test_an_input_of_another_shape_than_the_versions_is_given_back_as_it_was(
    database: Database, here: Place, given: Any
):
    run = await versioned(database, here, {"mail": MAIL})
    await mirrored(database, run, step(run, 1, "mail", input_data=given))
    assert (await shown(database, run))["mail"][0] == given


async def test_the_triggers_output_is_the_runs_trigger_data_and_no_output_is_none(
    database: Database, here: Place
):
    run = await versioned(database, here, None)
    await mirrored(
        database,
        run,
        step(run, 1, "form", output_data=ANSWERS),
        step(run, 2, "mail", output_data={**ANSWERS, "budget": 5001}),
        step(run, 3, "note"),
    )
    assert (await kept(database, run))["form"][1] == "null"
    assert {node: got for node, (_, got) in (await shown(database, run)).items()} == {
        "form": ANSWERS,
        "mail": {**ANSWERS, "budget": 5001},
        "note": None,
    }


async def test_rows_of_older_releases_hold_everything_and_read_the_same(database: Database, here: Place):
    run = await versioned(database, here, {"mail": MAIL})
    row = step(run, 1, "mail", input_data={**MAIL, "cc": "a@example.com"}, output_data=ANSWERS)
    row |= {"id": UUID(row["id"]), "workspace_id": here.workspace_id, "execution_id": run.id}
    async with database.workspace(here.workspace_id) as session:
        session.add(ExecutionStep(**row))
    assert await shown(database, run) == {"mail": ({**MAIL, "cc": "a@example.com"}, ANSWERS)}
    async with database.workspace(here.workspace_id) as session:
        assert await session.scalar(select(ExecutionStep.output_data)) == ANSWERS
