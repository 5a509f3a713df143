"""A simulation's script: what happens to its run from outside, and when."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from workflows.messages import Command

COMMANDS = ("approve", "reject", "pause", "resume", "retry_step", "skip_step")
"""Types of events that are decisions of people; `cancel` is another."""
ABOUT_STEPS = ("approve", "reject", "retry_step", "skip_step")
Fate = Literal["delivered", "refused", "too_late"]


@dataclass(frozen=True)
class Scripted:
    """Something that happens to the run."""

    id: str
    after: timedelta
    type: str
    data: Any = None
    step: str = ""
    by: str = "simulation"
    comment: str = ""

    @property
    def command(self) -> Command:
        """Write it as a decision."""
        return Command(by=self.by, step=self.step, comment=self.comment)


@dataclass
class Course:
    """How a run went, seen from outside."""

    run_ids: list[str] = field(default_factory=list)
    """Of the chain, the first one first."""
    is_over: bool = False
    fates: dict[str, tuple[Fate, str]] = field(default_factory=dict)
    """By event id: what became of it, and why."""
    stopped_by: Literal["time_limit", "virtual_time_limit", "size_limit"] | None = None
