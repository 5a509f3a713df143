"""ACTION_START_WORKFLOW: a run of another workflow, left to itself or waited for."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from workflows.nodetype import Callee, Data, NodeConfig, NodeType


class Config(NodeConfig):
    """Which workflow, with what as its `trigger`, and whether its end is waited for."""

    workflow_id: UUID
    input: dict[str, Data] = Field(default_factory=dict, max_length=100)
    wait: bool = False
    on_child_failure: Literal["fail", "continue"] = "fail"


class StartWorkflow(NodeType):
    """Starts a run of another workflow."""

    name = "ACTION_START_WORKFLOW"
    title = "Start a workflow"
    summary = (
        "Starts a run of another workflow's published version, about the same lead; `input` becomes what its "
        "templates see as `trigger`. With `wait` the step ends when that run does and gives its output; if "
        "it failed or was cancelled, the step fails (`onChildFailure`: `fail`) or goes on (`continue`). A "
        "run that is waited for is cancelled when the run that waits ends. Behind five runs in a row that "
        "started each other the step fails as `hop_limit`."
    )
    Config = Config
    example: ClassVar[dict[str, Any]] = {
        "workflowId": "01936f1e-7c3a-7bd0-8f53-2f6a1c3b9d10",
        "input": {"budget": "{{ trigger.budget | default: 0 }}"},
        "wait": True,
    }
    failure = ("unknown_workflow", {"workflowId": "01936f1e-7c3a-7bd0-8f53-2f6a1c3b9d10"})
    waits = True
    starts_runs = True

    @classmethod
    def callee(cls, config: NodeConfig) -> Callee | None:
        """Name the other workflow."""
        return Callee(config.workflow_id, config.wait) if isinstance(config, Config) else None


def event_type(execution_id: UUID | str) -> str:
    """Name the event by which a run tells that it ends."""
    return f"execution {execution_id}"


def execution_of(event: str) -> str | None:
    """Name the run whose end an event type tells of; None for any other event."""
    kind, _, execution_id = event.partition(" ")
    return execution_id if kind == "execution" and execution_id else None
