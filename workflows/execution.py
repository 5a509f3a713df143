"""The workflow of one execution: a thin driver that carries out what the pure run decides (design §5)."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    RetryState,
    is_cancelled_exception,
)
from temporalio.exceptions import (
    TimeoutError as TemporalTimeoutError,
)

from workflows.graph import Node
from workflows.messages import (
    BeginInput,
    Begun,
    Ending,
    ExecutionInput,
    ExecutionResult,
    Outcome,
    StepError,
    StepInput,
)
from workflows.nodetype import NodeType, common
from workflows.run import UNTOUCHED, Event, Ready, Run

PATIENCE = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=100,
)
"""For what only our own database can delay; a node's own `retry` is counted by its activity, so that an
outage of ours never uses up the attempts a user granted."""

FAILURES = (ActivityError, ApplicationError)
"""How a failed activity reaches us: a local one's own error comes bare, a timeout or cancellation wrapped."""


@workflow.defn(name="ExecutionWorkflow")
class ExecutionWorkflow:
    """Interprets the published graph for one lead or trigger."""

    @workflow.init
    def __init__(self, start: ExecutionInput) -> None:
        self._start = start
        self._run = Run(start)
        self._branches: dict[str, asyncio.Task[None]] = {}
        self._failure: ApplicationError | None = None
        self._draining = False

    @workflow.run
    async def run(self, start: ExecutionInput) -> ExecutionResult:
        """Admit the execution, walk its graph to the end, and say how it ended."""
        try:
            await self._enter()
            await workflow.wait_condition(lambda: self._failure is not None or not self._branches)
        except asyncio.CancelledError:
            await self._stop_branches()
            raise
        await self._stop_branches()
        if self._failure is not None:
            raise self._failure
        if self._run.state.ready:
            await self._continue_as_new()
        ending = self._run.state.ending or Ending()
        return ExecutionResult(outcome=ending.outcome, output=ending.output)

    async def _enter(self) -> None:
        """Begin at the trigger, or carry on where the state stands."""
        if self._start.facts is None:
            await self._begin()
        if self._start.state is None:
            self._launch(self._run.start())
            return
        for key in list(self._run.state.ready):
            self._branch_out(key, self._run.node_of(key))

    async def _begin(self) -> None:
        """Take the quota and learn the surroundings."""
        start = self._start
        request = BeginInput(
            workspace_id=start.workspace_id,
            workflow_id=start.workflow_id,
            execution_id=start.execution_id,
            lead_id=start.lead_id,
        )
        try:
            begun = await workflow.execute_local_activity(
                "begin",
                request,
                result_type=Begun,
                activity_id="begin",
                start_to_close_timeout=timedelta(seconds=10),
                retry_policy=PATIENCE,
                summary="begin",
            )
        except FAILURES as error:
            if is_cancelled_exception(error):
                raise
            told = told_by(error)
            raise ApplicationError(told.message, type=told.type, non_retryable=True) from error
        self._run.admit(begun)

    def _launch(self, events: list[Event]) -> None:
        """Start a branch for every step that became ready; hold them when history has grown long."""
        self._draining = self._draining or workflow.info().is_continue_as_new_suggested()
        if self._draining:
            for key in self._run.state.sleeping:
                self._branches[key].cancel()
            return
        for event in events:
            if isinstance(event, Ready):
                self._branch_out(event.key, event.node)

    def _branch_out(self, key: str, node: Node) -> None:
        self._branches[key] = asyncio.create_task(self._branch(key, node), name=key)

    async def _branch(self, key: str, node: Node) -> None:
        """Carry out one step and go on from it; its failure is an outcome or the end of the run."""
        try:
            outcome = await self._carry_out(key, node)
            self._launch(self._run.finish(key, outcome))
        except FAILURES as error:
            if is_cancelled_exception(error):
                return
            self._recover(key, node, told_by(error))
        except asyncio.CancelledError:
            return
        except (
            Exception
        ) as error:  # a defect of ours ends the run visibly instead of retrying a task for ever
            workflow.logger.exception("interpreter defect", extra={"step": key})
            self._failure = failed(node, key, StepError(type="defect", message=str(error)))
        finally:
            self._branches.pop(key, None)

    def _recover(self, key: str, node: Node, error: StepError) -> None:
        outcome = self._run.recover(key, error)
        if outcome is None:
            self._failure = self._failure or failed(node, key, error)
            return
        self._launch(self._run.finish(key, outcome))

    async def _carry_out(self, key: str, node: Node) -> Outcome:
        """Do a step's work once, then wait for its time if it has one."""
        state = self._run.state
        outcome = state.sleeping.get(key) or await self._work(key, node)
        if outcome.wake_at is not None:
            state.sleeping[key] = outcome
            if self._draining:
                # The run that continues this one sleeps for the rest; here it would hold the drain up.
                raise asyncio.CancelledError
            # Never zero: a timer must leave its event, by which the mirror knows that the step ended.
            left = max(outcome.wake_at - workflow.now(), timedelta(milliseconds=1))
            await workflow.sleep(left, summary=summary(key, node))
        return outcome

    async def _work(self, key: str, node: Node) -> Outcome:
        node_type = self._run.type_of(node)
        step = self._step(key, node)
        if node_type.queue is None:
            return await self._local(key, node_type, step)
        if node_type.fast_path:
            try:
                return await self._local(key, node_type, step, fast=True)
            except FAILURES as error:
                if is_cancelled_exception(error) or is_final(error):
                    raise
                step = step.model_copy(update={"first_attempt": step.first_attempt + 1})
        return await self._queued(key, node_type, step)

    async def _local(
        self, key: str, node_type: type[NodeType], step: StepInput, *, fast: bool = False
    ) -> Outcome:
        config = common(step.node.config)
        outcome: Outcome = await workflow.execute_local_activity(
            UNTOUCHED if node_type.passes else node_type.name,
            step,
            result_type=Outcome,
            activity_id=key,
            start_to_close_timeout=node_type.fast_timeout if fast else node_type.start_to_close(config),
            retry_policy=RetryPolicy(maximum_attempts=1) if fast else PATIENCE,
            summary=summary(key, step.node),
        )
        return outcome

    async def _queued(self, key: str, node_type: type[NodeType], step: StepInput) -> Outcome:
        config = common(step.node.config)
        retry = config.retry
        outcome: Outcome = await workflow.execute_activity(
            node_type.name,
            step,
            result_type=Outcome,
            activity_id=key,
            task_queue=f"{workflow.info().task_queue}-{node_type.queue}",
            start_to_close_timeout=node_type.start_to_close(config),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=retry.initial_seconds),
                backoff_coefficient=retry.backoff,
                maximum_interval=timedelta(seconds=max(retry.max_interval_seconds, retry.initial_seconds)),
                maximum_attempts=PATIENCE.maximum_attempts,
            ),
            summary=summary(key, step.node),
        )
        return outcome

    def _step(self, key: str, node: Node) -> StepInput:
        start = self._start
        passes = self._run.type_of(node).passes
        return StepInput(
            workspace_id=start.workspace_id,
            workflow_id=start.workflow_id,
            execution_id=start.execution_id,
            lead_id=start.lead_id,
            node=node,
            visit=int(key.rpartition(":")[2]),
            scope=self._run.scope_for(node),
            edges=self._run.edge_rules(node),
            load_lead=start.lead_id is not None and self._run.must_load_lead(node),
            zone=self._run.zone(),
            trigger=start.trigger_data if passes else {},
            inputs=self._run.inputs_of(node) if passes else {},
        )

    async def _stop_branches(self) -> None:
        """Cancel what still runs and see it end: gather would leave the siblings of a failed branch alone."""
        tasks = list(self._branches.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _continue_as_new(self) -> None:
        await workflow.wait_condition(workflow.all_handlers_finished)
        update = {"state": self._run.state, "facts": self._run.facts}
        workflow.continue_as_new(self._start.model_copy(update=update))


def summary(key: str, node: Node) -> str:
    """Name a command so that the Temporal Web UI reads like the graph (design §5)."""
    return f"{key} | {node.label or node.type}"


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


def failed(node: Node, key: str, error: StepError) -> ApplicationError:
    """Build the failure that a run ends with; its type is the execution's status_reason."""
    detail = {"step": key, "node_id": node.id, "error": error.model_dump()}
    message = f"{node.label or node.id}: {error.message}"
    return ApplicationError(message, detail, type="node_failed", non_retryable=True)
