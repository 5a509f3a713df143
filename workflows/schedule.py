"""The workflow that a schedule starts: it queues the runs that are due and ends."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey

from workflows.messages import ScheduledBatch, ScheduledBatchDone, ScheduledInput

DUE = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
PATIENT = RetryPolicy(maximum_interval=timedelta(minutes=1))
BATCHES_CAP = 500
"""Batches that one history takes; the rest goes on in the next."""


@workflow.defn(name="ScheduledRunsWorkflow")
class ScheduledRunsWorkflow:
    """Queues the runs of one time of one workflow, a batch of leads after the other."""

    @workflow.run
    async def run(self, given: ScheduledInput) -> int:
        """Return how many runs were queued."""
        due = given.due or workflow.info().typed_search_attributes.get(DUE) or workflow.info().start_time
        queued, after = given.queued, given.after
        if given.overlap == "buffer_one" and given.due is None:
            await self._wait_for_the_last(given)
        for number in range(BATCHES_CAP):
            done = await self._queue(ScheduledBatch(**given.place(), due=due, after=after), number)
            queued, after = queued + done.queued, done.after
            if after is None:
                break
        else:
            workflow.continue_as_new(given.model_copy(update={"due": due, "queued": queued, "after": after}))
        return queued

    async def _wait_for_the_last(self, given: ScheduledInput) -> None:
        """Wait until no scheduled run is open; to ask again is a retry, so that history stays small."""
        await workflow.execute_activity(
            "await_scheduled_runs",
            given,
            activity_id="wait",
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=PATIENT,
            summary="wait for the last run",
        )

    async def _queue(self, batch: ScheduledBatch, number: int) -> ScheduledBatchDone:
        done: ScheduledBatchDone = await workflow.execute_activity(
            "queue_scheduled_runs",
            batch,
            result_type=ScheduledBatchDone,
            activity_id=f"queue-{number}",
            start_to_close_timeout=timedelta(minutes=2),
            retry_policy=PATIENT,
            summary="queue runs",
        )
        return done
