"""Workflows: made, read, listed, changed, and moved from draft to active, paused and archived (ERD §4)."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db.models import Workflow, WorkflowVersion
from workflows.callees import Other

Status = Literal["draft", "active", "paused", "archived"]
CHANGEABLE = ("name", "description", "slug", "settings")
COMES_FROM: Mapping[Status, tuple[Status, ...]] = {
    "draft": (),
    "active": ("paused", "archived"),
    "paused": ("active",),
    "archived": ("draft", "active", "paused"),
}
"""Where a workflow may stand before each status; from draft to active it comes by publishing."""
SLUG_LENGTH = 63
SLUG_TRIES = 5


class SlugTaken(Exception):
    """Another workflow of this workspace has the slug."""


class WrongStatus(Exception):
    """The workflow stands where this is not possible."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def create(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    name: str,
    description: str | None = None,
    slug: str | None = None,
    settings: Mapping[str, Any] | None = None,
    template_id: UUID | None = None,
) -> Workflow:
    """Make a draft; without a slug of its own it gets a free one that reads like its name."""
    values = {
        "workspace_id": workspace_id,
        "name": name,
        "description": description,
        "settings": dict(settings or {}),
        "template_id": template_id,
    }
    if slug is not None:
        made = await _insert(session, values, slug)
        if made is None:
            raise SlugTaken
        return made
    for _ in range(SLUG_TRIES):
        made = await _insert(session, values, await _free_slug(session, workspace_id, slug_of(name)))
        if made is not None:
            return made
    raise SlugTaken


async def get(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> Workflow | None:
    """Read a workflow."""
    return (await session.execute(_one(workspace_id, workflow_id))).scalar_one_or_none()


async def lock(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> Workflow | None:
    """Hold a workflow until the transaction ends, so that its draft and form stay as they are read."""
    query = _one(workspace_id, workflow_id).with_for_update()
    return (await session.execute(query)).scalar_one_or_none()


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: UUID | None = None,
    statuses: Sequence[str] = (),
    search: str | None = None,
) -> Sequence[Workflow]:
    """List workflows, newest first; `before` is the id of the last one seen."""
    query = select(Workflow).where(Workflow.workspace_id == workspace_id, Workflow.deleted_at.is_(None))
    if before is not None:
        query = query.where(Workflow.id < before)
    if statuses:
        query = query.where(Workflow.status.in_(statuses))
    if search:
        query = query.where(Workflow.name.icontains(search, autoescape=True))
    return (await session.execute(query.order_by(Workflow.id.desc()).limit(limit))).scalars().all()


async def others(
    session: AsyncSession, workspace_id: UUID, workflow_ids: Collection[UUID]
) -> dict[UUID, Other]:
    """Tell what those need to know of these workflows who start runs of them."""
    query = select(Workflow.id, Workflow.name, Workflow.status, Workflow.published_version_id).where(
        Workflow.workspace_id == workspace_id,
        Workflow.id.in_(workflow_ids),
        Workflow.deleted_at.is_(None),
    )
    rows = await session.execute(query)
    return {id_: Other(name, status, version_id is not None) for id_, name, status, version_id in rows}


async def published_versions(
    session: AsyncSession, workspace_id: UUID, workflow_ids: Sequence[UUID]
) -> Mapping[UUID, int]:
    """Return the number of the published version by workflow; those never published are left out."""
    published = (WorkflowVersion.workspace_id == Workflow.workspace_id) & (
        WorkflowVersion.id == Workflow.published_version_id
    )
    query = (
        select(Workflow.id, WorkflowVersion.version)
        .join(WorkflowVersion, published)
        .where(Workflow.workspace_id == workspace_id, Workflow.id.in_(workflow_ids))
    )
    return {row.id: row.version for row in await session.execute(query)}


async def change(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, values: Mapping[str, Any]
) -> Workflow | None:
    """Write some of a workflow's own columns; None if there is no such workflow."""
    unknown = set(values) - set(CHANGEABLE)
    if unknown:
        raise ValueError(f"not to be written here: {', '.join(sorted(unknown))}")
    if not values:
        return await get(session, workspace_id, workflow_id)
    try:
        return await _write(session, workspace_id, workflow_id, values)
    except IntegrityError as error:
        if constraint_of(error) == "workflows_slug":
            raise SlugTaken from error
        raise


async def move(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, status: Status
) -> Workflow | None:
    """Pause, resume or archive a workflow; being there already is success. None if there is no such one."""
    moved = await _write(
        session,
        workspace_id,
        workflow_id,
        {"status": status},
        Workflow.status.in_(COMES_FROM[status]),
        Workflow.published_version_id.is_not(None) if status == "active" else Workflow.id.is_not(None),
    )
    if moved is not None:
        return moved
    found = await get(session, workspace_id, workflow_id)
    if found is None or found.status == status:
        return found
    unpublished = status == "active" and found.published_version_id is None
    reason = "it was never published" if unpublished else f"it is {found.status}"
    raise WrongStatus(found.status, f"The workflow cannot become {status}: {reason}.")


async def remove(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> bool:
    """Delete a workflow softly; its slug is free again, its leads and runs stay."""
    removed = await _write(
        session, workspace_id, workflow_id, {"deleted_at": func.now(), "status": "archived"}
    )
    return removed is not None


def slug_of(name: str) -> str:
    """Write a name as a slug: plain letters and digits, joined by hyphens."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_LENGTH].strip("-") or "workflow"


def constraint_of(error: IntegrityError) -> str | None:
    """Name the constraint that a statement broke."""
    diagnostics = getattr(error.orig, "diag", None)
    name: str | None = getattr(diagnostics, "constraint_name", None)
    return name


async def _insert(session: AsyncSession, values: Mapping[str, Any], slug: str) -> Workflow | None:
    statement = (
        insert(Workflow)
        .values(id=uuid7(), slug=slug, **values)
        .on_conflict_do_nothing(
            index_elements=["workspace_id", "slug"], index_where=Workflow.deleted_at.is_(None)
        )
        .returning(Workflow)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def _free_slug(session: AsyncSession, workspace_id: UUID, wanted: str) -> str:
    """Find the first of `wanted`, `wanted-2`, `wanted-3` … that no workflow has."""
    stem = wanted[: SLUG_LENGTH - 7].rstrip("-")
    query = select(Workflow.slug).where(
        Workflow.workspace_id == workspace_id,
        Workflow.deleted_at.is_(None),
        (Workflow.slug == wanted) | Workflow.slug.startswith(f"{stem}-", autoescape=True),
    )
    taken = set((await session.execute(query)).scalars())
    if wanted not in taken:
        return wanted
    number = 2
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


async def _write(
    session: AsyncSession,
    workspace_id: UUID,
    workflow_id: UUID,
    values: Mapping[str, Any],
    *provided: ColumnElement[bool],
) -> Workflow | None:
    statement = (
        update(Workflow)
        .where(
            Workflow.workspace_id == workspace_id,
            Workflow.id == workflow_id,
            Workflow.deleted_at.is_(None),
            *provided,
        )
        .values(**values)
        .returning(Workflow)
        .execution_options(populate_existing=True)
    )
    return (await session.execute(statement)).scalar_one_or_none()


def _one(workspace_id: UUID, workflow_id: UUID) -> Select[Workflow]:
    return (
        select(Workflow)
        .where(
            Workflow.workspace_id == workspace_id,
            Workflow.id == workflow_id,
            Workflow.deleted_at.is_(None),
        )
        .execution_options(populate_existing=True)
    )
