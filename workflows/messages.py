"""What crosses Temporal: one frozen model in, one out; new fields are optional."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from workflows.frames import WalkState
from workflows.graph import Frozen, Graph, Node

Scope = dict[str, Any]
SIMULATION = "simulation"
"""The memo of a simulated run that holds its plan: it outlives continue-as-new."""


class StepError(Frozen):
    """Why a step failed: a stable type and a sentence for people."""

    type: str
    message: str


class LogLine(Frozen):
    """A line that a node writes into the execution's log."""

    level: str = "INFO"
    message: str
    data: JsonValue = None


class Ending(Frozen):
    """What UTILITY_END says of the run."""

    outcome: str = "completed"
    output: JsonValue = None


class Outcome(Frozen):
    """What a node gives back: recorded in history, read by the walk and by the mirror."""

    output: JsonValue = None
    handles: tuple[str, ...] = ("default",)
    input: JsonValue = None
    """The rendered config, put there by the activity: a marker has no input of its own."""
    conditions: dict[str, bool] = Field(default_factory=dict)
    """Outgoing edge id to whether its own rule holds."""
    vars: dict[str, JsonValue] | None = None
    lead: dict[str, JsonValue] | None = None
    """The lead's scope as it stands now, if this step read or changed it."""
    wake_at: datetime | None = None
    """The step ends only then, unless something it waits for happens before."""
    waits_for: tuple[str, ...] = ()
    """Types of events that have the step look again."""
    ending: Ending | None = None
    items: tuple[JsonValue, ...] | None = None
    """What a loop is to run for; the step ends with the last of them."""
    log: tuple[LogLine, ...] = ()
    ms: float = 0
    """How long the activity worked; event times of local activities cannot be subtracted."""
    size: int = 0
    """Bytes of all this in history, put there by the activity."""
    then: tuple["Further", ...] = ()
    """Steps that the same activity carried out behind this one, in their order."""
    ago: float = 0
    """Milliseconds from its end to that of the activity, which is all that the event tells."""

    @property
    def rests(self) -> bool:
        """Tell whether the step goes on sleeping instead of ending."""
        return self.wake_at is not None or bool(self.waits_for)

    @property
    def whole_size(self) -> int:
        """Count the bytes of this and of all that followed."""
        return self.size + sum(each.outcome.size for each in self.then if each.outcome is not None)


class Further(Frozen):
    """A step that followed another in the same activity: exactly one of `outcome` and `error` is set."""

    key: str
    ago: float = 0
    """Milliseconds from its end to that of the activity; no two clocks have to agree for it."""
    outcome: Outcome | None = None
    error: StepError | None = None
    """Why its first attempt failed; nothing followed it."""
    final: bool = False
    """Trying again would be pointless."""
    ms: float = 0
    """How long an attempt that failed took."""


class Heard(Frozen):
    """An event that a run was told of; a lead's own stand in the database, here only their ids."""

    type: str
    at: datetime
    id: str | None = None
    data: JsonValue = None


OPERATOR = "Temporal Web UI"
"""Who decided where nobody says so: whoever may send updates there."""


class Command(Frozen):
    """What somebody wants of a running execution, and who; people type it into the Temporal Web UI, too."""

    by: str = OPERATOR
    step: str = ""
    """The step's key `<node id>:<visit>`, where the command is about one."""
    comment: str = ""
    once: bool = False
    """A decision that does not replace an earlier one of the same person."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        """Take the step's key alone, and nothing at all, as a person would type them."""
        if isinstance(given, str):
            return {"step": given}
        return {} if given is None else given


class Facts(Frozen):
    """What a run knows of its surroundings, the same from start to end."""

    workspace: dict[str, JsonValue] = Field(default_factory=dict)
    workflow: dict[str, JsonValue] = Field(default_factory=dict)
    execution: dict[str, JsonValue] = Field(default_factory=dict)


class RunState(BaseModel):
    """Everything a run remembers, as plain data (design §5)."""

    model_config = ConfigDict(hide_input_in_errors=True)

    walk: WalkState = Field(default_factory=WalkState)
    outputs: dict[str, JsonValue] = Field(default_factory=dict)
    """By React Flow node id."""
    item_outputs: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """What steps of a loop's item gave, by the item's frame and node id; gone with the item."""
    items: dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)
    """Of loops under way, by the key of their head."""
    vars: dict[str, JsonValue] = Field(default_factory=dict)
    lead: dict[str, JsonValue] | None = None
    """None: there is none, or it may have changed while the run slept; the next reader loads it."""
    zone: str | None = None
    """The lead's time zone, as it was last known."""
    ready: list[str] = Field(default_factory=list)
    """Keys of steps that are decided to run and have not ended."""
    sleeping: dict[str, Outcome] = Field(default_factory=dict)
    """Steps that have worked and wait for their time, or for an event."""
    entered: dict[str, datetime] = Field(default_factory=dict)
    """When each open step began; a wait's deadline counts from there."""
    held: dict[str, StepError] = Field(default_factory=dict)
    """Failed steps that wait for `retry_step` or `skip_step`."""
    tried: dict[str, int] = Field(default_factory=dict)
    """Steps whose fast path was gone already, behind another step, and its attempts."""
    retries: dict[str, int] = Field(default_factory=dict)
    """How often somebody had a step tried again."""
    skipped: list[str] = Field(default_factory=list)
    """Keys of held steps that somebody skipped; those of a loop's items are not kept."""
    inbox: list[Heard] = Field(default_factory=list)
    """Buffered from the start: an event that comes before its wait still counts."""
    paused: bool = False
    began_at: datetime | None = None
    ending: Ending | None = None


class Begun(Frozen):
    """The surroundings of an admitted execution; its quota is taken."""

    workspace: dict[str, JsonValue]
    workflow: dict[str, JsonValue]
    lead: dict[str, JsonValue] | None = None


class ExecutionInput(Frozen):
    """Starts an ExecutionWorkflow: ids, the trigger's data and the published graph."""

    workspace_id: UUID
    workflow_id: UUID
    execution_id: UUID
    version: int
    trigger_type: str
    trigger_node_id: str
    trigger_data: dict[str, JsonValue] = Field(default_factory=dict)
    lead_id: UUID | None = None
    awaited_by: UUID | None = None
    """The run that waits for the end of this one."""
    graph: Graph
    begun: Begun | None = None
    """What `begin` would find, where whoever starts the run has admitted it; never beside a `state`."""
    facts: Facts | None = None
    """Set by continue-as-new."""
    state: RunState | None = None
    """Set by continue-as-new and by a rerun that keeps earlier outputs."""
    holds_failures: bool = False
    """A failed step waits for a decision instead of failing the run."""

    @property
    def about(self) -> dict[str, str]:
        """Say in a log line whose run it is of; which one the SDK adds itself."""
        return {"workspace_id": str(self.workspace_id)}


class ExecutionResult(Frozen):
    """What a run ends with."""

    outcome: str = "completed"
    output: JsonValue = None


class BeginInput(Frozen):
    """Asks the `begin` activity to admit an execution."""

    workspace_id: UUID
    workflow_id: UUID
    execution_id: UUID
    lead_id: UUID | None = None


class Kin(Frozen):
    """A run, where its relations to other runs are asked about."""

    workspace_id: UUID
    execution_id: UUID
    step: str | None = None
    """Only what this step waits for, which is given up while the run goes on."""


class EdgeRule(Frozen):
    """A rule that stands on an edge, with the handle the edge leaves by."""

    edge_id: str
    handle: str | None
    rule: dict[str, Any]


class StepInput(Frozen):
    """One visit of one node, as its activity receives it."""

    workspace_id: UUID
    workflow_id: UUID
    execution_id: UUID
    lead_id: UUID | None = None
    node: Node
    visit: int = 1
    scope: Scope = Field(default_factory=dict)
    """Only what `node.reads` names, so that histories grow with the run and not with its square."""
    edges: tuple[EdgeRule, ...] = ()
    """The outgoing edges that carry a rule."""
    load_lead: bool = False
    zone: str = "UTC"
    """The lead's time zone, else the workspace's."""
    trigger: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    """For a node without an activity of its own: the outputs of the nodes it was reached from."""
    heard: tuple[Heard, ...] = ()
    retries: int = 0
    """How often somebody had the step tried again, for steps that wait."""
    entered_at: datetime | None = None
    began_at: datetime | None = None
    """When the run began; with `entered_at` only for steps that wait for events."""
    first_attempt: int = 1
    """Attempts made before this activity was scheduled, plus one (the fast path, design §5)."""
    onward: ExecutionInput | None = None
    """The run as it stands, where other steps may follow in the same activity (ADR 0028)."""


class DeliveryInput(Frozen):
    """Starts a DeliveryWorkflow: one message to one endpoint."""

    workspace_id: UUID
    endpoint_id: UUID
    message_id: str


class ScheduledInput(Frozen):
    """Whose time has come; the last three carry on a history that grew too long."""

    workspace_id: UUID
    workflow_id: UUID
    overlap: Literal["skip", "buffer_one", "allow_all"] = "skip"
    due: datetime | None = None
    queued: int = 0
    after: UUID | None = None

    def place(self) -> dict[str, UUID]:
        """Name the workflow."""
        return {"workspace_id": self.workspace_id, "workflow_id": self.workflow_id}


class ScheduledBatch(Frozen):
    """The next runs to queue, behind the lead that was last."""

    workspace_id: UUID
    workflow_id: UUID
    due: datetime
    after: UUID | None = None


class ScheduledBatchDone(Frozen):
    """What was queued, and the lead to go on behind, if there may be more."""

    queued: int
    after: UUID | None = None
