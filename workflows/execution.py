"""The workflow of one execution: a thin driver that carries out what the pure run decides (design §5)."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ApplicationError, is_cancelled_exception

from workflows.control import Controlled
from workflows.failures import FAILURES, QUEUE_LIMITED, defect, failed, is_final, told_by
from workflows.graph import Node, summary
from workflows.kin import cancel_awaited, release, tell_parent
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
from workflows.onward import asked, onward
from workflows.room import NEXT_TASK, Room, bytes_of, fits
from workflows.run import UNTOUCHED, Dropped, Event, Ready, Run

PATIENCE = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=100,
)
"""For what only our own database can delay; a node's own `retry` is counted by its activity."""
OTHERS = timedelta(minutes=2)
"""For what follows a step in its activity; each has its own limit there, and this one is nobody's."""
ONWARD = " → …"
"""Behind the summary of an activity in which others may have followed; its result names them."""
TRY = workflow.ActivityCancellationType.TRY_CANCEL
WAIT = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
BACKSTOP = timedelta(seconds=5)
"""The activity itself ends a step in time; what holds even the activity up is ended by Temporal, later."""
FRESH = timedelta(seconds=10)
"""How long after the start what whoever started the run read of the lead is taken for what it is."""
AGAIN = timedelta(seconds=1)
"""Until the next last look of a wait whose worker's clock is behind the server's."""


@workflow.defn(name="ExecutionWorkflow")
class ExecutionWorkflow(Controlled):
    """Interprets the published graph for one lead or trigger."""

    @workflow.init
    def __init__(self, start: ExecutionInput) -> None:
        self._start = start
        super().__init__(Run(start))
        self._branches: dict[str, asyncio.Task[None]] = {}
        self._draining = False
        self._is_stopping = False
        self._stays = False
        """It is too large to continue as new, and goes on in the history it has."""
        self._room = Room()

    @workflow.run
    async def run(self, start: ExecutionInput) -> ExecutionResult:
        """Run to the end, which the run that waits for this one, and those it waits for, learn of."""
        self._answer_the_web_ui()
        try:
            result = await self._run_through()
        except (*FAILURES, asyncio.CancelledError):
            await release(start, self._run)
            await tell_parent(start)
            raise
        await tell_parent(start)
        return result

    async def _run_through(self) -> ExecutionResult:
        """Admit the execution, walk its graph to the end, and say how it ended."""
        try:
            await self._enter()
            await workflow.wait_condition(self._is_settled)
            while self._failure is None and self._run.is_open and not self._may_move():
                self._stays, self._draining = True, False
                self._go_on()
                await workflow.wait_condition(self._is_settled)
        except asyncio.CancelledError:
            await self._stop_branches()
            raise
        except Exception as error:
            if isinstance(error, FAILURES):
                raise
            raise defect(error) from error
        await self._stop_branches()
        if self._failure is not None:
            raise self._failure
        if self._run.is_open:
            await self._continue_as_new()
        ending = self._run.state.ending or Ending()
        return ExecutionResult(outcome=ending.outcome, output=ending.output)

    async def _enter(self) -> None:
        """Begin at the trigger, or carry on where the state stands."""
        if self._start.facts is None:
            await self._begin()
        state = self._run.state
        state.began_at = state.began_at or workflow.now()
        if self._start.state is None:
            self._launch(self._run.start())
            return
        self._go_on()

    async def _begin(self) -> None:
        """Learn the surroundings; take the quota, unless that was done where the run was started."""
        begun = self._start.begun
        self._run.admit(begun or await self._admitted())
        if begun is None:
            return
        if workflow.now() - workflow.info().workflow_start_time > FRESH:
            # It waited for a worker, or was reset: the lead may have changed.
            self._run.state.lead = None
        # A cancel that came before this task is heard first: nothing begins.
        await asyncio.sleep(0)

    async def _admitted(self) -> Begun:
        start = self._start
        request = BeginInput(
            workspace_id=start.workspace_id,
            workflow_id=start.workflow_id,
            execution_id=start.execution_id,
            lead_id=start.lead_id,
        )
        try:
            begun: Begun = await workflow.execute_local_activity(
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
        return begun

    def _is_settled(self) -> bool:
        """Tell whether nothing is under way and nobody has to be waited for."""
        if self._failure is not None:
            return True
        state = self._run.state
        waits_for_somebody = bool(state.held) or (state.paused and self._run.is_open)
        return not self._branches and (self._draining or not waits_for_somebody)

    def _launch(self, events: list[Event]) -> None:
        """Start a branch for every step that became ready; hold them when history has grown long."""
        for event in events:
            if isinstance(event, Dropped):
                self._give_up(event)
        has_grown_long = workflow.info().is_continue_as_new_suggested() or self._room.has_grown
        self._draining = self._draining or (has_grown_long and not self._stays)
        if self._draining:
            for key in self._run.state.sleeping:
                if key in self._branches:
                    self._branches[key].cancel()
        elif self._run.halted() or any(isinstance(event, Ready) for event in events):
            self._go_on()

    def _give_up(self, dropped: Dropped) -> None:
        """Stop a step's branch; a run that it waits for nobody waits for any more."""
        if dropped.key in self._branches:
            self._branches[dropped.key].cancel()
        if self._run.type_of(dropped.node).starts_runs:
            name = f"{dropped.key} released"
            self._branches[name] = asyncio.create_task(self._release(dropped.key, name), name=name)

    async def _release(self, key: str, name: str) -> None:
        """Cancel what a step waits for; the run neither ends nor moves on meanwhile."""
        try:
            await cancel_awaited(self._start, name, step=key)
        finally:
            self._branches.pop(name, None)

    def _go_on(self) -> None:
        """Start a branch for every step that is to run and has none, unless the run is paused."""
        if self._run.state.paused or self._draining or self._is_stopping:
            return
        for key in self._run.waiting_to_run():
            if key not in self._branches:
                branch = self._branch(key, self._run.node_of(key))
                self._branches[key] = asyncio.create_task(branch, name=key)
        for key in self._run.halted():
            name = f"{key} breath"
            if name not in self._branches:
                self._branches[name] = asyncio.create_task(self._breathe(key, name), name=name)

    async def _breathe(self, key: str, name: str) -> None:
        """Let a long loop whose steps need no activity go on, in a task of its own each time."""
        told = summary(key, self._run.node_of(key))
        try:
            while key in self._run.halted() and not (self._run.state.paused or self._draining):
                # The mirror knows by this timer when the loop goes on.
                await workflow.sleep(NEXT_TASK, summary=told)
                self._launch(self._run.go_on(key))
        except Exception as error:
            self._failure = self._failure or defect(error)
        finally:
            self._branches.pop(name, None)

    async def _branch(self, key: str, node: Node) -> None:
        """Carry out one step and go on from it; its failure is an outcome or the end of the run."""
        try:
            outcome = await self._carry_out(key, node)
            self._finish(key, outcome)
        except FAILURES as error:
            if is_cancelled_exception(error):
                return
            self._recover(key, node, told_by(error))
        except asyncio.CancelledError:
            return
        except Exception as error:
            # A defect of ours ends the run visibly instead of retrying a task for ever.
            workflow.logger.exception("interpreter defect", extra={**self._start.about, "step": key})
            self._failure = failed(node, key, StepError(type="defect", message=str(error)))
        finally:
            self._branches.pop(key, None)
            self._looking.pop(key, None)

    def _finish(self, key: str, outcome: Outcome) -> None:
        """Go on from a step, and from those that its activity carried out behind it."""
        events = self._run.finish(key, outcome)
        for further in outcome.then:
            if further.outcome is not None:
                events += self._run.finish(further.key, further.outcome)
            elif further.error is not None and further.final:
                self._recover(further.key, self._run.node_of(further.key), further.error)
                return
            elif further.error is not None:
                self._run.state.tried[further.key] = int(further.error.type != QUEUE_LIMITED)
        self._launch(events)

    def _recover(self, key: str, node: Node, error: StepError) -> None:
        events = self._run.fail(key, error)
        if events is not None:
            self._launch(events)
        elif self._start.holds_failures and self._run.type_of(node).recovers:
            self._run.state.held[key] = error
        else:
            self._failure = self._failure or failed(node, key, error)

    async def _carry_out(self, key: str, node: Node) -> Outcome:
        """Do a step's work; while it rests, wait for its time or look again at what came."""
        state = self._run.state
        state.entered.setdefault(key, workflow.now())
        outcome = state.sleeping.get(key) or await self._work(key, node)
        while outcome.rests:
            self._note_news(key, outcome)
            state.sleeping[key] = outcome
            if self._draining:
                # The run that continues this one waits for the rest; here it would hold the drain up.
                raise asyncio.CancelledError
            if await self._rest(key, node, outcome):
                return outcome
            outcome = await self._work(key, node)
            if outcome.rests:
                # What it hears makes a long history, too.
                self._launch([])
        return outcome

    def _note_news(self, key: str, outcome: Outcome) -> None:
        """Look again at what was heard while the step looked, or by the run that this one continues."""
        heard = self._looking.pop(key, None)
        if heard is None:
            heard = {event.type for event in self._run.state.inbox}
        if heard.intersection(outcome.waits_for):
            self._news.add(key)

    async def _rest(self, key: str, node: Node, outcome: Outcome) -> bool:
        """Sleep; True when the step's time has come, False when there is something to look at."""
        left = None
        if outcome.wake_at is not None:
            # Never zero: a timer must leave its event, by which the mirror knows that the step ended.
            least = AGAIN if outcome.waits_for else timedelta(milliseconds=1)
            left = max(outcome.wake_at - workflow.now(), least)
        try:
            await workflow.wait_condition(
                lambda: key in self._news, timeout=left, timeout_summary=summary(key, node)
            )
        except TimeoutError:
            if not outcome.waits_for:
                self._room.clear()
                return True
            # What it waits for may stand before the timer in history, or behind: its last look decides.
        self._room.clear()
        # While the run slept the lead may have changed.
        self._run.state.lead = None
        return False

    async def _work(self, key: str, node: Node) -> Outcome:
        self._news.discard(key)
        self._looking[key] = set()
        node_type = self._run.type_of(node)
        step = asked(self._start, self._run, key)
        if node_type.queue is None:
            return await self._local(key, node_type, step)
        tried = self._run.state.tried.pop(key, None)
        if tried is not None:
            step = step.model_copy(update={"first_attempt": tried + 1})
        elif node_type.fast_path:
            try:
                return await self._local(key, node_type, step, fast=True)
            except FAILURES as error:
                if is_cancelled_exception(error) or is_final(error):
                    raise
                if told_by(error).type != QUEUE_LIMITED:
                    step = step.model_copy(update={"first_attempt": step.first_attempt + 1})
        return await self._queued(key, node_type, step)

    async def _local(
        self,
        key: str,
        node_type: type[NodeType],
        step: StepInput,
        *,
        fast: bool = False,
        activity: str | None = None,
    ) -> Outcome:
        limit = node_type.start_to_close(common(step.node.config)) + BACKSTOP
        await self._room.enter()
        size, others = 0, self._others(key) if activity is None else None
        limit = (node_type.fast_timeout if fast else limit) + (OTHERS if others else timedelta())
        try:
            outcome: Outcome = await workflow.execute_local_activity(
                activity or (UNTOUCHED if node_type.passes else node_type.name),
                step.model_copy(update={"onward": others}) if others else step,
                result_type=Outcome,
                activity_id=key,
                start_to_close_timeout=limit,
                retry_policy=RetryPolicy(maximum_attempts=1) if fast else PATIENCE,
                # What was carried out before the cancellation is told.
                cancellation_type=WAIT if others else TRY,
                summary=summary(key, step.node) + (ONWARD if others else ""),
            )
            size = outcome.whole_size
        finally:
            self._room.leave(size)
        return outcome

    def _others(self, key: str) -> ExecutionInput | None:
        """Hand the run over to the activity of the only step under way, if other steps may follow there."""
        is_alone = len(self._branches) == 1 and not self._draining
        return onward(self._start, self._run, key) if is_alone else None

    async def _queued(self, key: str, node_type: type[NodeType], step: StepInput) -> Outcome:
        config = common(step.node.config)
        retry = config.retry
        size = bytes_of(step)
        if not fits(size):
            # It would hold up the task for ever; as a local activity it goes nowhere and is refused.
            return await self._local(key, node_type, step, activity=UNTOUCHED)
        await self._room.send(size)
        outcome: Outcome = await workflow.execute_activity(
            node_type.name,
            step,
            result_type=Outcome,
            activity_id=key,
            task_queue=f"{workflow.info().task_queue}-{node_type.queue}",
            start_to_close_timeout=node_type.start_to_close(config) + BACKSTOP,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=retry.initial_seconds),
                backoff_coefficient=retry.backoff,
                maximum_interval=timedelta(seconds=max(retry.max_interval_seconds, retry.initial_seconds)),
                maximum_attempts=PATIENCE.maximum_attempts,
            ),
            summary=summary(key, step.node),
            # A vendor's queue knows workspaces alone, so that a limit for each holds for all of its runs.
            priority=Priority(fairness_key=str(step.workspace_id)),
        )
        self._room.clear(outcome.size)
        return outcome

    async def _stop_branches(self) -> None:
        """Cancel what still runs and see it end: gather would leave the siblings of a failed branch alone."""
        self._is_stopping = True
        tasks = list(self._branches.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    def _may_move(self) -> bool:
        """Tell whether all that the run knows fits into the first event of the one that continues it."""
        return fits(bytes_of(self._onward()))

    async def _continue_as_new(self) -> None:
        await self._room.send(bytes_of(self._onward()))
        await workflow.wait_condition(workflow.all_handlers_finished)
        # Between two histories a run may change to newer code; where workers have no build this says nothing.
        upgrade = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE
        workflow.continue_as_new(self._onward(), initial_versioning_behavior=upgrade)

    def _onward(self) -> ExecutionInput:
        update = {"begun": None, "state": self._run.state, "facts": self._run.facts}
        return self._start.model_copy(update=update)
