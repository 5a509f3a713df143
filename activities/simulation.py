"""Simulated runs: the interpreter is production's own, only its activities have an imagined world."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ContinueAsNewInput,
    HandleSignalInput,
    Interceptor,
    StartActivityInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from activities import links
from activities import nodes as effects_by_node
from activities.errors import StepFailed
from activities.step import Step
from activities.steps import Steps
from workflows import conditions, nodes, simulation
from workflows.graph import split_key
from workflows.messages import SIMULATION, Begun, Kin, Outcome, StepInput
from workflows.nodetype import NodeType
from workflows.run import UNTOUCHED
from workflows.simulation import ImaginedBegin, ImaginedStep, Lead, Plan, Stub


class SimulatedSteps(Steps):
    """The activities of all node types, over no world: nothing here can reach anything outside."""

    def __init__(self) -> None:
        """Hold nothing."""

    def activities(self, queue: str | None = None) -> Sequence[Callable[..., Any]]:
        """Return what the worker of simulations carries out: all of it."""
        runs = [t for t in nodes.types().values() if not (t.passes or t.never_runs)]
        return [begin, cancel_awaited, *(self._activity(node_type) for node_type in runs), self._weighing()]

    def _activity(self, node_type: type[NodeType]) -> Callable[..., Awaitable[Outcome]]:
        async def run(given: ImaginedStep) -> Outcome:
            return await self._carry_out(node_type, given)

        return activity.defn(name=node_type.name)(run)

    def _weighing(self) -> Callable[..., Awaitable[Outcome]]:
        async def run(given: ImaginedStep) -> Outcome:
            node_type = nodes.types()[given.node.type]
            return await self._guarded(node_type, given, lambda step: self._pass(node_type, step))

        return activity.defn(name=UNTOUCHED)(run)

    def _now(self, given: StepInput) -> datetime:
        return imagined(given).now

    def _links(self, given: StepInput, now: datetime) -> dict[str, str]:
        return {name: f"https://example.com/{name}" for name in links.named(given)}

    async def _fresh_lead(self, given: StepInput) -> dict[str, Any] | None:
        return imagined(given).lead

    async def _carry_out(self, node_type: type[NodeType], given: StepInput) -> Outcome:
        try:
            return await self._guarded(node_type, given, lambda step: self._imagine(node_type, step))
        except ApplicationError as error:
            # Nothing here gets better by trying again, and a local activity waits in real time.
            raise ApplicationError(error.message, type=error.type, non_retryable=True) from error

    async def _imagine(self, node_type: type[NodeType], step: Step) -> Outcome:
        """Give what the script says, else what the type decides or says of itself, else the first way out."""
        stub = imagined(step.given).stub
        if stub is not None:
            return explained(step, stubbed(node_type, step, stub))
        if node_type.decides:
            return explained(step, await self._decide(node_type, step))
        simulate = effects_by_node.simulation_of(node_type)
        return explained(step, simulate(step) if simulate else Outcome(handles=first_way(node_type, step)))


@activity.defn(name="begin")
async def begin(asked: ImaginedBegin) -> Begun:
    """Admit a simulated run: it takes no quota, and its surroundings come with it."""
    plan = asked.plan
    return Begun(workspace=plan.workspace, workflow=plan.workflow, lead=plan.lead)


@activity.defn(name="cancel_awaited")
async def cancel_awaited(asked: Kin) -> int:
    """Cancel nothing: a simulated run starts no others."""
    return 0


def imagined(given: StepInput) -> ImaginedStep:
    """Read a step's input as this worker gets it."""
    if not isinstance(given, ImaginedStep):
        raise TypeError("the worker of simulations takes imagined steps only")
    return given


def stubbed(node_type: type[NodeType], step: Step, stub: Stub) -> Outcome:
    """Give what the script says; its error is final."""
    if stub.error is not None:
        raise StepFailed(stub.error.type, stub.error.message)
    ways = (stub.handle,) if stub.handle is not None else first_way(node_type, step)
    return Outcome(output=stub.output, handles=ways)


def first_way(node_type: type[NodeType], step: Step) -> tuple[str, ...]:
    """Choose the way out of a node that nobody chose for."""
    return node_type.handles[:1] or node_type.ways_out(step.config)[:1]


def explained(step: Step, outcome: Outcome) -> Outcome:
    """Tell how the rules on the outgoing edges come out, with both their sides."""
    scope = {**step.scope, "steps": {**step.scope.get("steps", {}), step.given.node.save_as: outcome.output}}
    for edge in step.given.edges:
        try:
            verdict = conditions.evaluate(edge.rule, scope, now=step.now, zone=step.zone)
        except conditions.ConditionError:
            continue  # the step itself fails by it
        shown = verdict.model_dump(mode="json", exclude_unset=True)
        outcome = simulation.note({"edge_id": edge.edge_id, "evaluation": shown}, outcome)
    return outcome


class SimulationInterceptor(Interceptor):
    """Hands each activity of a run what it would look up: the time, the lead, the stub."""

    def workflow_interceptor_class(
        self, given: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Stand around the workflow, which knows nothing of it."""
        return _Inbound


class _Imagination:
    """What one run imagines; plain code of the workflow's own, so that a replay imagines the same."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._lead: Lead | None = None

    @property
    def plan(self) -> Plan:
        if self._plan is None:
            self._plan = workflow.memo_value(SIMULATION, type_hint=Plan)
            self._lead = dict(self._plan.lead) if self._plan.lead is not None else None
        return self._plan

    def hear(self, event: Any) -> Any:
        """Let the lead change with an event, and give the event the run's own time."""
        changes = self.plan.changes.get(event.id, {})
        if self._lead is not None:
            self._lead = simulation.changed(simulation.with_event(self._lead, event.type), changes)
        return event.model_copy(update={"at": workflow.now()})

    def furnish(self, activity_id: str | None, args: Sequence[Any]) -> list[Any]:
        """Add to an activity's input; models are made without looking, as they may be a sandbox's own."""
        given, *_ = args
        if activity_id == "begin":
            return [ImaginedBegin.model_construct(**dict(given), plan=self.plan)]
        if split_key(activity_id or "") is None:
            return list(args)
        plan = self.plan
        step = ImaginedStep.model_construct(
            **dict(given),
            now=workflow.now(),
            lead=self._lead,
            stub=plan.stubs.get(given.node.id),
            # Only who writes into the lead has to know what it may be given.
            fields=plan.fields if nodes.types()[given.node.type].changes_lead else (),
        )
        return [step]

    def watch(self, handle: workflow.ActivityHandle[Any]) -> workflow.ActivityHandle[Any]:
        """Learn what a step makes of the lead, before the workflow goes on from it."""
        before = self._lead

        def learn(task: asyncio.Task[Any]) -> None:
            after = None if task.cancelled() or task.exception() else getattr(task.result(), "lead", None)
            if after is not None and after != before:
                self._lead = simulation.meeting(self._lead, before, after)

        handle.add_done_callback(learn)
        return handle

    def carried(self) -> dict[str, Any]:
        """Give the memo of the run that continues this one."""
        return {SIMULATION: self.plan.model_copy(update={"lead": self._lead})}


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        self._imagination = _Imagination()
        super().init(_Outbound(outbound, self._imagination))

    async def handle_signal(self, given: HandleSignalInput) -> None:
        if given.signal == "event":
            given.args = [self._imagination.hear(given.args[0])]
        await super().handle_signal(given)


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, following: WorkflowOutboundInterceptor, imagination: _Imagination) -> None:
        super().__init__(following)
        self._imagination = imagination

    def start_local_activity(self, given: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        given.args = self._imagination.furnish(given.activity_id, given.args)
        return self._imagination.watch(super().start_local_activity(given))

    def start_activity(self, given: StartActivityInput) -> workflow.ActivityHandle[Any]:
        given.args = self._imagination.furnish(given.activity_id, given.args)
        # There are no vendors here, and so no queues of theirs.
        given.task_queue = None
        return self._imagination.watch(super().start_activity(given))

    def continue_as_new(self, given: ContinueAsNewInput) -> Any:
        given.memo = self._imagination.carried()
        return super().continue_as_new(given)
