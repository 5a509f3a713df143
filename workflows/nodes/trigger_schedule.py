"""TRIGGER_SCHEDULE: runs at times, once or for each lead that fits."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from workflows import cron, moments
from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType, Part, Result, Rule

# Named here: inside Config the field's own default stands in the way of the module.
Cron = Annotated[str, AfterValidator(cron.check)]
Overlap = Literal["skip", "buffer_one", "allow_all"]
Status = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def _zone(name: str) -> str:
    if moments.zone_named(name) is None:
        raise ValueError("there is no time zone of this name; write one such as Europe/Berlin")
    return name


class LeadQuery(Part):
    """Which leads of the workspace get a run each; what is left out does not narrow it."""

    status: list[Status] = Field(default_factory=list, max_length=100)
    workflow_id: UUID | None = None
    filter: Rule | None = None


class Config(NodeConfig):
    """When, in which zone, and for whom."""

    cron: Cron | None = None
    interval_seconds: int | None = Field(None, ge=60, le=366 * 86_400)
    timezone: Annotated[str, AfterValidator(_zone)] | None = None
    overlap: Overlap = "skip"
    catchup_seconds: int = Field(3_600, ge=10, le=366 * 86_400)
    jitter_seconds: int = Field(0, ge=0, le=86_400)
    lead_query: LeadQuery | None = None
    batch_size: int = Field(100, ge=1, le=1_000)

    @model_validator(mode="after")
    def _one_rhythm(self) -> "Config":
        if (self.cron is None) == (self.interval_seconds is None):
            raise ValueError("set `cron` or `intervalSeconds`, one of them")
        return self


class Output(Result):
    """The time that the run was planned for."""

    scheduled_at: datetime


class ScheduleTrigger(NodeType):
    """Starts by the clock."""

    name = "TRIGGER_SCHEDULE"
    title = "Schedule"
    summary = (
        "Starts at the times of `cron` (five fields, all of which must fit) or every `intervalSeconds`, in "
        "`timezone`, else the workspace's. With `leadQuery` every lead that fits gets a run, queued "
        "`batchSize` at a time; without it there is one run and no lead. `trigger` is `{scheduled_at}`. "
        "While an earlier scheduled run (of the same lead) is still open, `overlap` skips the next one, lets "
        "one time wait (`buffer_one`) or runs beside it (`allow_all`). Times missed by an outage are made up "
        "for within `catchupSeconds`; those of a paused workflow are not."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "cron": "0 9 * * MON-FRI",
        "timezone": "Europe/Berlin",
        "leadQuery": {"status": ["NEW"]},
    }
    passes = True

    @classmethod
    def brings_lead(cls, config: Any) -> bool:
        """Have one where there is a query for leads."""
        return config.lead_query is not None

    @classmethod
    def pass_through(cls, config: NodeConfig, trigger: dict[str, Any], inputs: dict[str, Any]) -> Outcome:
        """Hand the time on."""
        return Outcome(output=trigger)
