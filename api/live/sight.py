"""Looking at a run: its rows first, then Temporal, and never long: the rows are there when it is away."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.live.describer import OVER, UNKNOWN, Describer, Unseen
from api.live.waits import Scene, Wait
from db import live as stored
from db.live import Stand
from db.session import Database

NOT_STARTED = "not_started"


class Live(BaseModel):
    """What an open run waits for, at this moment."""

    model_config = ConfigDict(
        title="ExecutionLive",
        json_schema_extra={
            "examples": [
                {
                    "at": "2026-11-27T08:00:02Z",
                    "paused": False,
                    "paused_by": None,
                    "cancelling": False,
                    "waits": [
                        {
                            "kind": "retry",
                            "step_id": "01936f1e-7c3a-7bd0-8f53-2f6a1c3b9d10",
                            "node_id": "mail",
                            "node_type": "ACTION_SEND_EMAIL",
                            "label": "Send the offer",
                            "visit": 1,
                            "attempt": 3,
                            "max_attempts": 5,
                            "next_attempt_at": "2026-11-27T08:00:06Z",
                            "last_error": {"type": "smtp_error", "message": "421 try again later"},
                        }
                    ],
                }
            ]
        },
    )

    at: datetime = Field(description="When Temporal said so.")
    paused: bool
    paused_by: str | None = None
    cancelling: bool = Field(description="Its cancel was asked for and has not been carried out yet.")
    waits: list[Wait] = Field(description="One for each open step, in the order in which they were decided.")


@dataclass(frozen=True)
class Sight:
    """A run as it was seen."""

    scene: Scene
    missing: str | None = None
    """Why Temporal told nothing of it."""

    @property
    def stand(self) -> Stand:
        """Its rows."""
        return self.scene.stand

    @cached_property
    def waits(self) -> list[Wait]:
        """What it waits for, as far as rows and Temporal know."""
        return self.scene.waits() if self.stand.is_open else []

    @property
    def live(self) -> Live | None:
        """What is shown of it while it is open and Temporal answers."""
        described = self.scene.described
        if described is None:
            return None
        return Live(
            at=datetime.now(UTC),
            paused=self.scene.is_paused,
            paused_by=self.stand.paused_by,
            cancelling=self.stand.run.cancel_requested_at is not None,
            waits=self.waits,
        )


async def look(
    database: Database, describer: Describer, workspace_id: UUID, execution_id: UUID
) -> Sight | None:
    """Look at a run; None if the workspace has no such run."""
    async with database.workspace(workspace_id) as session:
        stand = await stored.stand(session, workspace_id, execution_id)
    return None if stand is None else await _beside(stand, describer)


async def _beside(stand: Stand, describer: Describer) -> Sight:
    """Ask Temporal, outside of the transaction."""
    if not stand.is_open:
        return Sight(Scene(stand), OVER)
    try:
        described = await describer.look(stand.run.id)
    except Unseen as unseen:
        return Sight(Scene(stand), _reason(stand, str(unseen)))
    # Its rows follow in a moment.
    return Sight(Scene(stand, described)) if described.is_open else Sight(Scene(stand), OVER)


def _reason(stand: Stand, reason: str) -> str:
    """A run that Temporal does not know may not have been handed to it yet."""
    is_waiting = stand.run.status == "queued" and stand.run.dispatched_at is None
    return NOT_STARTED if reason == UNKNOWN and is_waiting else reason
