"""`flowtrack limits`: what may be asked of it, and how the limits of vendors' queues are told."""

import argparse
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

QUEUES = ("mail", "http", "webhooks")


class Limit(Protocol):
    """How many tasks begin a second at most, who said so and why."""

    @property
    def per_second(self) -> float: ...
    @property
    def reason(self) -> str: ...
    @property
    def by(self) -> str: ...
    @property
    def at(self) -> datetime | None: ...


class Standing(Protocol):
    """A queue's limits, and what waits in it."""

    @property
    def queue(self) -> str: ...
    @property
    def whole(self) -> Limit | None: ...
    @property
    def each_workspace(self) -> Limit | None: ...
    @property
    def backlog(self) -> int: ...
    @property
    def oldest(self) -> timedelta: ...


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    verb.add_argument("queue", nargs="?", choices=QUEUES, metavar="QUEUE", help=f"one of {', '.join(QUEUES)}")
    verb.add_argument("--per-second", type=_rate, metavar="N", help="steps of all workspaces that begin")
    verb.add_argument("--per-workspace", type=_rate, metavar="N", help="steps of each workspace that begin")
    verb.add_argument("--hold", action="store_true", help="let none begin until the limit is changed")
    verb.add_argument("--none", action="store_true", help="take the queue's limits away")
    verb.add_argument("--reason", default="", metavar="TEXT", help="why; it is shown with the limit")


def wanted(chosen: argparse.Namespace) -> dict[str, float | None]:
    """Read which limits are to change; raise ValueError with what is wrong."""
    numbers = {"per_second": chosen.per_second, "per_workspace": chosen.per_workspace}
    asked: dict[str, float | None] = {name: rate for name, rate in numbers.items() if rate is not None}
    if sum((bool(asked), chosen.hold, chosen.none)) > 1:
        raise ValueError("Give numbers, or --hold, or --none.")
    if chosen.hold:
        asked = {"per_second": 0.0}
    if chosen.none:
        asked = {"per_second": None, "per_workspace": None}
    if asked and chosen.queue is None:
        raise ValueError(f"Name the queue: {', '.join(QUEUES)}.")
    if chosen.reason and not asked:
        raise ValueError("A reason needs a limit: --per-second, --per-workspace, --hold or --none.")
    return asked


def told(found: Sequence[Standing]) -> Iterator[str]:
    """Yield lines for people."""
    for each in found:
        yield f"{each.queue:<10} {_limits(each):<50} {_waiting(each)}".rstrip()
        for limit in dict.fromkeys(_origin(one) for one in (each.whole, each.each_workspace) if one):
            yield f"{'':<10}   {limit}"


def _limits(each: Standing) -> str:
    if each.whole is not None and each.whole.per_second == 0:
        return "held: nothing begins"
    parts = [f"{each.whole.per_second:g} a second"] if each.whole else []
    if each.each_workspace:
        parts.append(f"{each.each_workspace.per_second:g} a second for each workspace")
    return ", ".join(parts) or "no limit"


def _waiting(each: Standing) -> str:
    if not each.backlog:
        return ""
    return f"{each.backlog} waiting, the oldest for {timedelta(seconds=round(each.oldest.total_seconds()))}"


def _origin(limit: Limit) -> str:
    since = f"since {limit.at:%Y-%m-%d %H:%M} UTC " if limit.at else ""
    why = f": {limit.reason}" if limit.reason else ""
    return f"{since}by {limit.by or 'somebody'}{why}"


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate: give 0 to 100000")
    return rate
