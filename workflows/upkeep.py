"""The scheduled jobs that keep an installation in order; each is one idempotent activity."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

JOBS = {
    "roll_quotas": timedelta(hours=1),
    "keep_log_partitions": timedelta(days=1),
    "tidy": timedelta(days=1),
    "arrange_schedules": timedelta(minutes=5),
}
"""Activity to how often it runs. Late or twice does no harm: the database decides what is due."""


@workflow.defn(name="UpkeepWorkflow")
class UpkeepWorkflow:
    """Runs one job; the schedule that starts it is named `upkeep-<job>`."""

    @workflow.run
    async def run(self, job: str) -> Any:
        """Return what the job says it did."""
        return await workflow.execute_activity(
            job,
            activity_id=job,
            start_to_close_timeout=timedelta(minutes=5),
            retry_policy=RetryPolicy(maximum_interval=timedelta(minutes=1)),
            summary=job.replace("_", " "),
        )
