"""All that is wrong with a draft, with what only the database knows of its surroundings."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from db import fields, workflows
from workflows import callees, validation
from workflows.callees import Neighbours
from workflows.problems import Problem
from workflows.reactflow import Draft


async def problems(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, draft: Draft, *, publishing: bool
) -> Sequence[Problem]:
    """List every problem of a workflow's draft, errors first."""
    form = await fields.form(session, workspace_id, workflow_id)
    named = callees.named(draft)
    known = await workflows.others(session, workspace_id, named) if named else {}
    return validation.problems(draft, form, publishing=publishing, neighbours=Neighbours(workflow_id, known))
