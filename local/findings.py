"""What a check of `flowtrack doctor` found, in a line for people and in JSON for programs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is; a warning is to be looked at, a failure keeps something from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What one check found; a remedy stands beside each problem."""

    subject: str
    level: Level
    what: str
    remedy: str = ""

    @property
    def is_well(self) -> bool:
        """Tell whether nothing is to be done."""
        return self.level is Level.OK

    def __str__(self) -> str:
        shown = self.level if self.is_well else self.level.upper()
        line = f"{shown:<4}  {self.subject}: {self.what}"
        return line if self.is_well else f"{line}\n      → {self.remedy}"


def ok(subject: str, what: str) -> Finding:
    """Find nothing to be done."""
    return Finding(subject, Level.OK, what)


def warn(subject: str, what: str, remedy: str) -> Finding:
    """Find something to be looked at."""
    return Finding(subject, Level.WARN, what, remedy)


def fail(subject: str, what: str, remedy: str) -> Finding:
    """Find something that does not work."""
    return Finding(subject, Level.FAIL, what, remedy)


def bounded(
    subject: str, what: str, value: float, *, warn_at: float, fail_at: float = float("inf"), remedy: str
) -> Finding:
    """Judge a number by how large it is."""
    if value >= fail_at:
        return fail(subject, what, remedy)
    return warn(subject, what, remedy) if value >= warn_at else ok(subject, what)


def worst(findings: Sequence[Finding]) -> Level:
    """Give the worst level among findings."""
    order = list(Level)
    return max((each.level for each in findings), key=order.index, default=Level.OK)


def report(findings: Sequence[Finding], *, as_json: bool = False, say: Callable[[str], None] = print) -> bool:
    """Print the findings; tell whether nothing failed."""
    level = worst(findings)
    if as_json:
        found = [{name: value for name, value in asdict(each).items() if value} for each in findings]
        say(json.dumps({"level": level, "findings": found}, ensure_ascii=False, indent=2))
    else:
        for finding in findings:
            say(str(finding))
    return level is not Level.FAIL
