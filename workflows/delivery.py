"""The workflow of one webhook message to one endpoint: it outlives the run that caused it."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from workflows.messages import DeliveryInput


@workflow.defn(name="DeliveryWorkflow")
class DeliveryWorkflow:
    """Tries until the endpoint accepts the message or its schedule is used up."""

    @workflow.run
    async def run(self, delivery: DeliveryInput) -> str:
        """Return the delivery's last status; the activity names each next try's delay itself."""
        status: str = await workflow.execute_activity(
            "deliver_webhook",
            delivery,
            result_type=str,
            activity_id="deliver",
            task_queue=f"{workflow.info().task_queue}-webhooks",
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=5), maximum_interval=timedelta(hours=24)
            ),
            summary=f"deliver {delivery.message_id}",
        )
        return status
