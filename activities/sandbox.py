"""Where workflows run in a worker: the SDK's sandbox, made lean, and the hints that come out of it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from temporalio import workflow
from temporalio.api.enums.v1 import CommandType
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import StorageDriverStoreContext, WorkflowSerializationContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker._command_aware_visitor import CommandInfo
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.worker.workflow_sandbox._importer import Importer
from temporalio.worker.workflow_sandbox._restrictions import RestrictionContext
from temporalio.worker.workflow_sandbox._runner import _Instance

from activities.clients.payloads import HandedOver
from activities.interceptors import HINT
from workflows import nodes

ENDINGS = {f"{how}_workflow_execution" for how in ("complete", "fail", "cancel", "continue_as_new")}
"""The commands that end a task whatever is under way."""
NOWHERE = StorageDriverStoreContext(target=None)

PURE = tuple(
    f"workflows.{name}"
    for name in (
        *("control", "failures", "graph", "kin", "messages"),
        *("nodetype", "onward", "room", "run", "scopes"),
    )
)
"""What the workflow files import. It comes, with all that it imports itself, from outside; that it is pure is
shown by the strict runner, which passes nothing."""


class Watch(threading.local, RestrictionContext):
    """Whether a workflow runs, in each thread: runs share what was imported, not when they are watched."""


class _Run(_Instance):
    """One run in the sandbox, over modules that were imported there before."""

    def __init__(self, det: WorkflowInstanceDetails, runner: type[WorkflowRunner], shared: Importer) -> None:
        self.instance_details, self.runner_class, self.importer = det, runner, shared
        self._current_thread_id = None
        self.globals_and_locals = {"__file__": "workflow_sandbox.py"}
        self._create_instance()


@dataclass(frozen=True)
class Sandbox(SandboxedWorkflowRunner):
    """The SDK's sandbox, entered for the workflow's own code alone.

    The SDK enters it six times more for each payload, to ask in which context the payload is to be converted.
    Our codec asks whose workflow it is and no more (ADR 0020), which is known outside (ADR 0010).
    The SDK also imports the workflow's file again for every run; here only a strict one does.
    """

    is_strict: bool = False
    importers: dict[str, Importer] = field(default_factory=dict)
    """What each workflow file imported, itself included."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Build the sandboxed workflow of one run."""
        inside = super().create_instance(det) if self.is_strict else self._shared(det)
        return _Sandboxed(inside, det)

    def _shared(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        name = det.defn.cls.__module__
        if name not in self.importers:
            self.importers[name] = Importer(self.restrictions, Watch(), workflow_module_name=name)
        return _Run(det, self.runner_class, self.importers[name])


class _Sandboxed(WorkflowInstance):
    """Hints when a run's history grows: as a workflow task ends, of the last once Temporal has it."""

    def __init__(self, inside: WorkflowInstance, det: WorkflowInstanceDetails) -> None:
        self._inside = inside
        self._tell: Callable[..., None] | None = det.extern_functions.get(HINT)
        self._workflow_id, self._run_id = det.info.workflow_id, det.info.run_id
        where = det.info.namespace, det.info.workflow_id
        self._context, self._handed_over = WorkflowSerializationContext(*where), HandedOver(*where)
        self._local: set[int] = set()
        """Of the commands of this activation the numbers of those whose payloads stay in the process."""
        self._is_replaying = False
        self._under_way = 0
        """Local activities: the task is not over before they are."""
        self._is_told = False
        """That this task has begun."""
        self._is_over = False

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._inside.activate(act)
        if any(job.HasField("remove_from_cache") for job in act.jobs):
            if self._is_over:
                self._hint(is_over=True)
            return completion
        commands = completion.successful.commands
        names = [command.WhichOneof("variant") for command in commands]
        self._is_replaying = act.is_replaying
        self._local = {
            command.schedule_local_activity.seq
            for command, name in zip(commands, names, strict=True)
            if name == "schedule_local_activity"
        }
        self._under_way += names.count("schedule_local_activity")
        self._under_way -= sum(
            job.HasField("resolve_activity") and job.resolve_activity.is_local for job in act.jobs
        )
        if act.is_replaying:
            return completion
        # The worker lets go of a run as soon as Temporal has taken its end.
        self._is_over = not ENDINGS.isdisjoint(names)
        ends = not self._under_way
        if not self._is_over and (ends or not self._is_told):
            self._hint(soon=ends)
            self._is_told = not ends
        return completion

    def _hint(self, *, soon: bool = True, is_over: bool = False) -> None:
        if self._tell is not None:
            self._tell(self._workflow_id, self._run_id, soon=soon, is_over=is_over)

    def get_info(self) -> workflow.Info:
        return self._inside.get_info()

    def get_thread_id(self) -> int | None:
        return self._inside.get_thread_id()

    def get_serialization_context(self, command_info: CommandInfo | None) -> WorkflowSerializationContext:
        """Say which payloads no history will keep: those are put nowhere, however large (ADR 0023)."""
        is_local = (
            command_info is not None
            and command_info.command_type == CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK
            and command_info.command_seq in self._local
        )
        return self._handed_over if self._is_replaying or is_local else self._context

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:
        return NOWHERE


def sandbox(*, strict: bool = False) -> SandboxedWorkflowRunner:
    """Return the sandbox policy; a strict one imports even our pure modules again and watches them."""
    # Loaded here, outside: a node type that the first run had to load would be imported inside the sandbox.
    nodes.types()
    policy = workflow.SandboxImportNotificationPolicy
    # The policy that raises means every import that is not on the list, those to be watched too.
    raising = policy.SILENT if strict else policy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*(() if strict else PURE))
    return Sandbox(restrictions.with_import_notification_policy(raising), is_strict=strict)
