"""Who goes first: taking submissions in comes before starting runs and before looking after them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

BUSY = 4
"""Submissions at once from which on the work beside them gives way."""
PAUSE = 0.02
"""Seconds between two pieces of that work meanwhile: it goes on, but takes a fifth of the time."""


class Traffic:
    """Counts the submissions that are being taken in, and has everything else let them pass."""

    def __init__(self) -> None:
        self._submissions = 0
        self._turn = asyncio.Semaphore(1)

    @property
    def is_dense(self) -> bool:
        """Tell whether many submissions wait at once."""
        return self._submissions >= BUSY

    @contextmanager
    def submission(self) -> Iterator[None]:
        """Count one while it is taken in."""
        self._submissions += 1
        try:
            yield
        finally:
            self._submissions -= 1

    async def give_way(self) -> None:
        """Go on at once where few submissions wait; else one after another, with pauses."""
        if self.is_dense:
            async with self._turn:
                await asyncio.sleep(PAUSE)
