"""What a run owes the runs it is related to: its end is told to the one that waits, and ends those it awaits.

A native child would die with the run that its parent continues as new from, or never be heard of again (ADR
0013); so runs that are waited for stand on their own, and these two calls tie them together.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

from workflows.messages import ExecutionInput, Heard, Kin
from workflows.nodes.action_start_workflow import event_type
from workflows.room import NEXT_TASK
from workflows.run import Run


async def tell_parent(start: ExecutionInput) -> None:
    """Wake the run that waits for this one; it looks for itself how this one ended."""
    if start.awaited_by is None:
        return
    parent = workflow.get_external_workflow_handle(f"execution-{start.awaited_by}")
    try:
        await parent.signal("event", Heard(type=event_type(start.execution_id), at=workflow.now()))
    except ApplicationError as error:
        # It is over, or full: in the latter case the mirror tells it (api/mirror/kin.py).
        workflow.logger.info("parent not told", extra={**start.about, "reason": error.message})


async def release(start: ExecutionInput, run: Run) -> None:
    """Cancel the runs that steps of this one wait for; what this misses, the mirror cancels."""
    if not any(run.type_of(run.node_of(key)).starts_runs for key in run.state.ready):
        return
    if workflow.patched("release-in-a-task-of-its-own"):
        # Why this run ends has to stand in history first. Runs that are cancelled tell of it: the server then
        # has the task done again, and a step that looked again would see them and name them as the reason.
        await workflow.sleep(NEXT_TASK)
    await cancel_awaited(start, "release")


async def cancel_awaited(start: ExecutionInput, activity_id: str, *, step: str | None = None) -> None:
    """Cancel the runs that a step waits for, or all that are waited for; the id must be no step's key."""
    asked = Kin(workspace_id=start.workspace_id, execution_id=start.execution_id, step=step)
    try:
        await workflow.execute_local_activity(
            "cancel_awaited",
            asked,
            activity_id=activity_id,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_attempts=3),
            summary="cancel the runs that were waited for",
        )
    except (ActivityError, ApplicationError):
        workflow.logger.warning("awaited runs not cancelled", extra=start.about)
