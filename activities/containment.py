"""Running a node's own code so that nothing it raises, and no time it takes, harms what is around it."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that code which was told to stop has for tidying up."""
_abandoned: set[asyncio.Task[Any]] = set()


class TookTooLong(Exception):
    """The code did not end within its time."""


class Escaped(Exception):
    """The code raised what would end the process, or spoke of a cancellation that nobody asked for."""


async def contained(work: Coroutine[Any, Any, T], *, seconds: float | None) -> T:
    """Await some code; raise Escaped or TookTooLong for what would otherwise reach beyond its step.

    It runs as a task of its own: code that ignores its cancellation is left behind instead of waited for.
    """
    task = asyncio.create_task(_caught(work))
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await _stop(task)
        raise
    if not done:
        await _stop(task)
        raise TookTooLong
    result, error = task.result()
    if error is None:
        return result  # type: ignore[return-value]
    if isinstance(error, Exception):
        raise error
    raise Escaped(type(error).__name__) from error


async def _caught(work: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    try:
        return await work, None
    except BaseException as error:
        # A task that raises SystemExit takes the whole worker down.
        return None, error


async def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    _, running = await asyncio.wait({task}, timeout=PATIENCE)
    if running:
        logger.error("a step ignores its cancellation and is left behind", extra={"task": task.get_name()})
        _abandoned.add(task)
        task.add_done_callback(_abandoned.discard)


def left_behind() -> int:
    """Count the code that was told to stop and has not."""
    return len(_abandoned)
