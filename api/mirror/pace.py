"""How often the mirror looks, and what it calls late."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Pace:
    """How often the mirror looks; seconds, unless they are long."""

    first: float = 0.008
    """From the last of some hints to the look: a worker hints before it writes."""
    longest: float = 0.5
    """How long hints that do not cease put a look off: a short run is looked at once, after its end."""
    started: float = 2.0
    """From a start to the look, if no worker hints before; more while many runs wait for a worker."""
    crowd: int = 16
    """So many runs under way double that."""
    again: float = 0.08
    """From one look to the next; twice as much after each that found nothing."""
    empty_reads: int = 4
    """After so many looks that found nothing, an execution needs a new hint."""
    sweep: float = 60
    silence: timedelta = timedelta(minutes=5)
    """An open execution that was not looked at for so long is."""
    overlap: timedelta = timedelta(minutes=2)
    """Visibility may be behind by less than this."""
    reach: timedelta = timedelta(hours=1)
    """How far the first sweep looks back for closed runs."""
    lost_after: timedelta = timedelta(minutes=5)
    """Since its dispatch, until a run that Temporal does not know counts as lost."""
    alarm_after: timedelta = timedelta(hours=12)
    """Since a close that was not mirrored: half of the dev server's retention."""
    patience: float = 30
    """The longest pause after errors."""
    concurrency: int = 8
