"""What a bad node does, by a name: run as the effect of planted types, whose config says which.

This file is written into `activities/nodes/` as it stands: it imports only what an effect may.
"""

import asyncio
import datetime
import os
import time
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import StepDeferred, StepFailed
from activities.step import Step
from activities.world import World
from workflows.messages import Ending, LogLine, Outcome

HUGE = "x" * 3_000_000


class Speechless(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


class Odd:
    """No JSON at all."""


def deep(levels: int) -> Any:
    """Nest a list."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def circular() -> Any:
    """Build a list that holds itself, twice."""
    value: list[Any] = []
    value += [value, value]
    return value


def unchecked(**fields: Any) -> Outcome:
    """Build an outcome as one can by going around its checks."""
    return Outcome().model_copy(update=fields)


RAISED: dict[str, Any] = {
    "exception": lambda: ValueError("s3cret"),
    "huge_exception": lambda: ValueError(HUGE),
    "system_exit": lambda: SystemExit(3),
    "keyboard_interrupt": KeyboardInterrupt,
    "generator_exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "group": lambda: ExceptionGroup("many", [ValueError("a"), OSError("b")]),
    "base_group": lambda: BaseExceptionGroup("many", [KeyboardInterrupt(), ValueError("a")]),
    "speechless": Speechless,
    "recursion": RecursionError,
    "memory": MemoryError,
    "stop": StopAsyncIteration,
    "asks_to_complete_later": activity.raise_complete_async,
    "temporals_own": lambda: ApplicationError("m", Odd(), type="t", non_retryable=True),
    "step_failed_oddly": lambda: StepFailed(HUGE, HUGE + "\0\ud800"),
    "deferred_for_no_time": lambda: StepDeferred("later", "later", seconds=float("nan")),
}
GIVEN: dict[str, Any] = {
    "nothing": lambda: None,
    "a_dict": lambda: {"output": 1},
    "huge": lambda: Outcome(output=HUGE),
    "nan": lambda: Outcome(output=float("nan")),
    "infinity": lambda: Outcome(output=[float("inf")]),
    "a_set": lambda: Outcome(output={1, 2}),
    "unchecked_set": lambda: unchecked(output={1, 2}),
    "bytes": lambda: unchecked(output=b"x"),
    "datetime": lambda: unchecked(output=[datetime.datetime.now(datetime.UTC)]),
    "odd": lambda: unchecked(output={"odd": Odd()}),
    "circular": lambda: unchecked(output=circular()),
    "deep": lambda: unchecked(output=deep(10_000)),
    "rather_deep": lambda: Outcome(output=deep(150)),
    "number_keys": lambda: unchecked(output={1: 2}),
    "huge_number": lambda: Outcome(output=10**5_000),
    "large_number": lambda: Outcome(output=2**2_000),
    "wrong_handle": lambda: Outcome(handles=("nowhere",)),
    "no_handles": lambda: unchecked(handles=None),
    "handle_number": lambda: unchecked(handles=(1,)),
    "vars_list": lambda: unchecked(vars=[1]),
    "vars_huge": lambda: Outcome(vars={"a": HUGE}),
    "lead_huge": lambda: Outcome(lead={"a": HUGE}),
    "lead_text": lambda: unchecked(lead="x"),
    "log_huge": lambda: Outcome(log=(LogLine(message=HUGE),)),
    "log_text": lambda: unchecked(log="x"),
    "ending_huge": lambda: Outcome(ending=Ending(output=HUGE)),
    "ending_odd": lambda: unchecked(ending=Odd()),
    "wakes_naively": lambda: Outcome(wake_at=datetime.datetime(2026, 1, 1)),  # noqa: DTZ001
    "wakes_never": lambda: Outcome(wake_at=datetime.datetime.max.replace(tzinfo=datetime.UTC)),
    "wakes_oddly": lambda: unchecked(wake_at="soon"),
    "waits_for_numbers": lambda: unchecked(waits_for=(1, 2)),
    # These are mended, or are all right.
    "half_characters": lambda: Outcome(output={"a\0": "b\0c", "d": ["\ud800e"]}),
    "long_ago": lambda: Outcome(wake_at=datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)),
}

NOT_JSON = (
    *("nan", "infinity", "a_set", "unchecked_set", "bytes", "datetime", "odd", "circular"),
    *("deep", "rather_deep", "number_keys", "huge_number", "large_number"),
)


async def run(step: Step, world: World) -> Outcome:
    """Do it."""
    how = step.config.how
    if how in RAISED:
        raise RAISED[how]()
    if how == "never":
        await asyncio.sleep(3600)
    if how == "stubborn":
        await stubbornly(asyncio.get_running_loop().time() + 6)
    if how == "blocks":
        time.sleep(2.5)  # noqa: ASYNC251 - that is the point
    if how.startswith("weighs "):
        return Outcome(output="x" * int(how.removeprefix("weighs ")))
    if how.startswith("scrambles "):
        return Outcome(output=os.urandom(int(how.removeprefix("scrambles ")) // 2).hex())
    given: Outcome = GIVEN[how]() if how in GIVEN else Outcome(output=how)
    return given


async def stubbornly(until: float) -> None:
    """Ignore every cancellation."""
    while asyncio.get_running_loop().time() < until:
        try:
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            continue
