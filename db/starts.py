"""What a queued execution needs to be started, its admission, and the note that it was started."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from db import leads, plans, quotas
from db.effects import EffectKey
from db.forms import Form
from db.intake import Accepted, Submission
from db.models import Workflow, WorkflowExecution, WorkflowVersion, Workspace
from db.session import Database, Single, fetch
from workflows.graph import Graph
from workflows.messages import BeginInput, Begun, ExecutionInput

# Rows are locked in the order of their ids, so that parallel notes wait for each other in turn.
NOTE = """
    UPDATE workflow_executions e SET
        dispatched_at = coalesce(e.dispatched_at, now()),
        temporal_run_id = coalesce(e.temporal_run_id, r.run_id),
        lock_acquired_at = NULL, locked_by = NULL, updated_at = now(),
        -- Whoever asked Temporal to cancel it may have come before the run was there.
        cancel_due_at = CASE WHEN e.dispatched_at IS NULL AND e.cancel_requested_at IS NOT NULL
            THEN now() ELSE e.cancel_due_at END
    FROM (SELECT x.id, r.run_id FROM unnest(%(ids)s::uuid[], %(run_ids)s::text[]) AS r (id, run_id)
          JOIN workflow_executions x ON x.workspace_id = %(workspace_id)s AND x.id = r.id
          ORDER BY x.id FOR NO KEY UPDATE OF x) r
    WHERE e.workspace_id = %(workspace_id)s AND e.id = r.id
"""
RELEASE = """
    UPDATE workflow_executions SET lock_acquired_at = NULL, locked_by = NULL
    WHERE workspace_id = %(workspace_id)s AND id = ANY(%(ids)s::uuid[])
      AND status = 'queued' AND dispatched_at IS NULL
"""
SURROUNDINGS = """
    SELECT s.name, s.slug, s.timezone, w.id, w.name,
        e.status = 'cancelled' OR e.cancel_requested_at IS NOT NULL
    FROM workflow_executions e
    JOIN workspaces s ON s.id = e.workspace_id
    JOIN workflows w ON w.workspace_id = e.workspace_id AND w.id = e.workflow_id
    WHERE e.workspace_id = %(workspace_id)s AND e.id = %(execution_id)s
"""


@dataclass(frozen=True)
class Rerun:
    """What a rerun keeps: all that this run did, or all of it that does not follow from a node."""

    of: UUID
    node_id: str | None


@dataclass(frozen=True)
class Start:
    """A start to be made."""

    input: ExecutionInput
    workflow_name: str
    rerun: Rerun | None = None
    """Whose history gives the state to start with."""
    weight: float = 1
    """The workspace's share of a busy worker, by its plan."""
    waits_behind: bool = False
    """Nobody waits for it in person: it is one of a schedule's runs, or a rerun."""

    @property
    def workspace_id(self) -> UUID:
        """Name the workspace whose run it is."""
        return self.input.workspace_id

    @property
    def execution_id(self) -> UUID:
        """Name the execution."""
        return self.input.execution_id


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """The `workspace`, `workflow` and `lead` scopes of a run, and how it stands with it."""

    workspace: dict[str, Any]
    workflow: dict[str, Any]
    lead: dict[str, Any] | None
    is_withdrawn: bool
    """Its cancel was asked for, whatever the mirror has read of it since."""
    is_admitted: bool
    """Its quota has been taken just now; if not, that is `quotas.admit`'s to do or to refuse."""


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
            .add_columns(Workflow.name, Workflow.settings, plans.weight(workspace_id))
            .join(
                WorkflowVersion,
                (WorkflowVersion.workspace_id == WorkflowExecution.workspace_id)
                & (WorkflowVersion.id == WorkflowExecution.workflow_version_id),
            )
            .join(
                Workflow,
                (Workflow.workspace_id == WorkflowExecution.workspace_id)
                & (Workflow.id == WorkflowExecution.workflow_id),
            )
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
    execution, version, graph, name, settings, weight = found
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
            awaited_by=execution.cause_execution_id if execution.awaited_step else None,
            graph=Graph.model_validate(graph),
            holds_failures=bool(settings.get("hold_failures")),
        ),
        workflow_name=name,
        rerun=_rerun_of(execution),
        weight=weight or 1,
        waits_behind=execution.trigger_type == "SCHEDULE" or execution.rerun_from is not None,
    )


def made(form: Form, submission: Submission, accepted: Accepted) -> Start | None:
    """Return the start that an accepted submission ordered, from what is known of it already."""
    if accepted.execution_id is None or form.status == "paused":
        return None
    return Start(
        input=ExecutionInput(
            workspace_id=form.workspace_id,
            workflow_id=form.workflow_id,
            execution_id=accepted.execution_id,
            version=form.version,
            trigger_type=form.channel.trigger_type,
            trigger_node_id=form.trigger_node_id,
            trigger_data=dict(submission.typed),
            lead_id=accepted.lead_id,
            graph=form.graph,
            holds_failures=bool(form.settings.get("hold_failures")),
        ),
        workflow_name=form.name,
        weight=form.weight,
    )


def _rerun_of(execution: WorkflowExecution) -> Rerun | None:
    told = execution.rerun_from
    if told is None or told["from"] == "start":
        return None
    return Rerun(UUID(told["of"]), told.get("node_id"))


async def note_dispatched(
    session: AsyncSession | Single, workspace_id: UUID, runs: Mapping[UUID, str | None]
) -> None:
    """Note that Temporal has these executions' runs; what comes after is the mirror's to tell."""
    given = {"workspace_id": workspace_id, "ids": list(runs), "run_ids": list(runs.values())}
    await fetch(session, NOTE, given)


async def release(session: AsyncSession | Single, workspace_id: UUID, execution_ids: Sequence[UUID]) -> None:
    """Leave executions that could not be started to the dispatcher, at once."""
    await fetch(session, RELEASE, {"workspace_id": workspace_id, "ids": list(execution_ids)})


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


def key_of(run: BeginInput | Start) -> EffectKey:
    """Name the effect of a run's admission; the engine's own stand under no node."""
    ids = {"workspace_id": run.workspace_id, "execution_id": run.execution_id}
    return EffectKey(**ids, node_id="", visit=0, effect="quota")


async def admitted(database: Database, start: Start) -> Start:
    """Admit a run where it is started, if that goes at once; any other is left to `begin`, which says why.

    So is one that waits behind others, reruns among them: by its turn what is read of its lead may be old.
    """
    if start.waits_behind:
        return start
    try:
        found = await begin(database, key_of(start), start.input.lead_id)
    except (DBAPIError, PoolTimeout, OSError):
        return start
    if found is None or found.is_withdrawn or not found.is_admitted:
        return start
    begun = Begun(workspace=found.workspace, workflow=found.workflow, lead=found.lead)
    return replace(start, input=start.input.model_copy(update={"begun": begun}))


async def begin(database: Database, key: EffectKey, lead_id: UUID | None) -> Beginning | None:
    """Admit an execution under its key and read what it begins with; None if there is no such execution."""
    given = {**key.values, "lead_id": lead_id}
    found, lead, admitted = await database.at_once(
        key.workspace_id, (SURROUNDINGS, given), (leads.SCOPE, given), quotas.admission(key)
    )
    if not found:
        return None
    ((name, slug, zone, workflow_id, workflow_name, is_withdrawn),) = found
    return Beginning(
        workspace={"id": str(key.workspace_id), "name": name, "slug": slug, "timezone": zone},
        workflow={"id": str(workflow_id), "name": workflow_name},
        lead=leads.scoped(lead),
        is_withdrawn=is_withdrawn,
        is_admitted=bool(admitted),
    )
