"""How a step's failure is read, and what a run's failure says."""

from temporalio.exceptions import ActivityError, ApplicationError, FailureError, RetryState
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from workflows.graph import Node
from workflows.messages import StepError

WITHDRAWN = "withdrawn"
"""Refuses a run that was cancelled while its start was under way; it ends as cancelled, not as failed."""
QUEUE_LIMITED = "queue_limited"
"""Sends a step from the fast path to its queue before anything was tried."""
FAILURES = (ActivityError, ApplicationError)
"""How a failed activity reaches us: a local one's own error comes bare, a timeout or cancellation wrapped."""


def is_final(error: ActivityError | ApplicationError) -> bool:
    """Tell whether trying again is pointless."""
    if isinstance(error, ApplicationError):
        return error.non_retryable
    return error.retry_state == RetryState.NON_RETRYABLE_FAILURE


def told_by(error: FailureError) -> StepError:
    """Read what went wrong out of Temporal's wrapping."""
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ApplicationError):
        return StepError(type=cause.type or "error", message=cause.message)
    if isinstance(cause, TemporalTimeoutError):
        return StepError(type="timed_out", message="The step did not end within its time limit.")
    return StepError(type="error", message=str(cause or error))


def defect(error: Exception) -> ApplicationError:
    """Build the failure of a run in which the interpreter itself went wrong; a task must not retry it."""
    return ApplicationError(f"{type(error).__name__}: {error}"[:2_000], type="defect", non_retryable=True)


def failed(node: Node, key: str, error: StepError) -> ApplicationError:
    """Build the failure that a run ends with; its type is the execution's status_reason."""
    detail = {"step": key, "node_id": node.id, "error": error.model_dump()}
    message = f"{node.label or node.id}: {error.message}"
    return ApplicationError(message, detail, type="node_failed", non_retryable=True)


def failed_step(failure: ApplicationError | None) -> dict[str, StepError]:
    """Read which step a run's failure is about, the inverse of `failed`; without one the key is empty."""
    if failure is None:
        return {}
    about = failure.details[0] if failure.details and isinstance(failure.details[0], dict) else {}
    error = about.get("error") or {"type": failure.type or "failed", "message": failure.message}
    return {str(about.get("step", "")): StepError.model_validate(error)}
