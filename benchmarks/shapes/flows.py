"""The hand-written workflows: the tutorials' way, and FlowTrack's own shape."""

from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import workflow

SOON = timedelta(seconds=30)


@dataclass
class Form:
    """One submission."""

    run_id: str
    lead_id: str
    email: str
    budget: int


@dataclass
class Record:
    """What every step took in and gave."""

    run_id: str
    steps: list[dict[str, Any]] = field(default_factory=list)


@workflow.defn
class Tutorial:
    """Three normal activities with the SDK's defaults."""

    @workflow.run
    async def run(self, form: Form) -> str:
        """Decide, write, mail, tell."""
        if form.budget < 5000:
            return "small"
        for name in ("save_lead", "send_mail_simply", "call_webhook_simply"):
            await workflow.execute_activity(name, form, start_to_close_timeout=SOON)
        return "big"


@workflow.defn
class Lean:
    """FlowTrack's shape: each step a local activity, its row written in one batch at the end."""

    @workflow.run
    async def run(self, form: Form) -> str:
        """Decide, write, mail, tell, record."""
        steps: list[dict[str, Any]] = []
        for name in ("decide", "save_status", "send_mail", "call_webhook"):
            output: dict[str, Any] = await workflow.execute_local_activity(
                name, form, start_to_close_timeout=SOON
            )
            steps.append({"node": name, "input": asdict(form), "output": output})
        await workflow.execute_local_activity(
            "record", Record(form.run_id, steps), start_to_close_timeout=SOON
        )
        return "big"
