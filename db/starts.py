"""What a queued execution needs to be started, and the note that it was."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db.models import Workflow, WorkflowExecution, WorkflowVersion, Workspace
from workflows.graph import Graph
from workflows.messages import ExecutionInput


@dataclass(frozen=True)
class Start:
    """A start to be made."""

    input: ExecutionInput
    workflow_name: str


@dataclass(frozen=True)
class Surroundings:
    """The `workspace` and `workflow` scopes of a run."""

    workspace: dict[str, Any]
    workflow: dict[str, Any]
    status: str


@dataclass(frozen=True)
class Facts:
    """What every run of a workflow knows of its surroundings."""

    workspace: dict[str, Any]
    workflow: dict[str, Any]
    holds_failures: bool


async def load(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Start | None:
    """Return what starts an execution; None unless it is queued and its workflow takes runs on."""
    found = (
        await session.execute(
            select(WorkflowExecution, WorkflowVersion.version, WorkflowVersion.graph)
            .add_columns(Workflow.name, Workflow.settings)
            .join(WorkflowVersion, WorkflowVersion.id == WorkflowExecution.workflow_version_id)
            .join(Workflow, Workflow.id == WorkflowExecution.workflow_id)
            .where(
                WorkflowExecution.workspace_id == workspace_id,
                WorkflowExecution.id == execution_id,
                WorkflowExecution.status == "queued",
                # A paused workflow holds its runs (design §5).
                Workflow.status != "paused",
            )
        )
    ).one_or_none()
    if found is None:
        return None
    execution, version, graph, name, settings = found
    return Start(
        input=ExecutionInput(
            workspace_id=workspace_id,
            workflow_id=execution.workflow_id,
            execution_id=execution.id,
            version=version,
            trigger_type=execution.trigger_type,
            trigger_node_id=execution.trigger_node_id,
            trigger_data=execution.trigger_data,
            lead_id=execution.lead_id,
            graph=Graph.model_validate(graph),
            holds_failures=bool(settings.get("hold_failures")),
        ),
        workflow_name=name,
    )


async def note_dispatched(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, *, run_id: str | None
) -> None:
    """Note that Temporal has the run; what comes after is the mirror's to tell."""
    await session.execute(
        update(WorkflowExecution)
        .where(WorkflowExecution.workspace_id == workspace_id, WorkflowExecution.id == execution_id)
        .values(
            dispatched_at=func.coalesce(WorkflowExecution.dispatched_at, func.now()),
            temporal_run_id=func.coalesce(WorkflowExecution.temporal_run_id, run_id),
        )
    )


async def facts(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> Facts | None:
    """Return the scopes that all runs of a workflow share; None if there is no such workflow."""
    query = (
        select(Workspace.name, Workspace.slug, Workspace.timezone, Workflow.name, Workflow.settings)
        .select_from(Workflow)
        .join(Workspace, Workspace.id == Workflow.workspace_id)
        .where(
            Workflow.workspace_id == workspace_id,
            Workflow.id == workflow_id,
            Workflow.deleted_at.is_(None),
        )
    )
    found = (await session.execute(query)).one_or_none()
    if found is None:
        return None
    name, slug, zone, workflow_name, settings = found
    return Facts(
        workspace={"id": str(workspace_id), "name": name, "slug": slug, "timezone": zone},
        workflow={"id": str(workflow_id), "name": workflow_name},
        holds_failures=bool(settings.get("hold_failures")),
    )


async def surroundings(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Surroundings | None:
    """Return an execution's workspace and workflow; None if the ids do not belong together."""
    found = (
        await session.execute(
            select(Workspace.name, Workspace.slug, Workspace.timezone, Workflow.id, Workflow.name)
            .add_columns(WorkflowExecution.status)
            .select_from(WorkflowExecution)
            .join(Workspace, Workspace.id == WorkflowExecution.workspace_id)
            .join(Workflow, Workflow.id == WorkflowExecution.workflow_id)
            .where(WorkflowExecution.workspace_id == workspace_id, WorkflowExecution.id == execution_id)
        )
    ).one_or_none()
    if found is None:
        return None
    name, slug, zone, workflow_id, workflow_name, status = found
    return Surroundings(
        workspace={"id": str(workspace_id), "name": name, "slug": slug, "timezone": zone},
        workflow={"id": str(workflow_id), "name": workflow_name},
        status=status,
    )
