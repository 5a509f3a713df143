"""Writing together what arrives together: alone and at once while there is room, in company when not."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class Waiting(Generic[Item, Result]):
    """One item, and whoever waits for what becomes of it."""

    item: Item
    names: frozenset[Hashable]
    result: asyncio.Future[Result] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batches(Generic[Key, Item, Result]):
    """Hands items of one key to `write` in batches; nobody waits for a batch to fill.

    While fewer than `lanes` writes are under way an item goes at once. What comes meanwhile goes together
    with the next, so that a busy database sees fewer, larger transactions.
    """

    def __init__(
        self,
        write: Callable[[Key, Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        lanes: int,
        most: int,
        names: Callable[[Item], frozenset[Hashable]] = lambda item: frozenset(),
    ) -> None:
        """Prepare; items that share one of their `names` never go in one batch."""
        self._write = write
        self._lanes = lanes
        self._most = most
        self._names = names
        self._queues: OrderedDict[Key, deque[Waiting[Item, Result]]] = OrderedDict()
        self._writers: set[asyncio.Task[None]] = set()
        self._busy = 0

    async def add(self, key: Key, item: Item) -> Result:
        """Have an item written; return, or raise, what came of it."""
        waiting = Waiting[Item, Result](item, self._names(item))
        self._queues.setdefault(key, deque()).append(waiting)
        if self._busy < self._lanes:
            self._busy += 1
            writer = asyncio.create_task(self._work())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        return await waiting.result

    async def _work(self) -> None:
        try:
            while self._queues:
                key, queue = self._queues.popitem(last=False)
                batch = self._batch(queue)
                if queue:
                    self._queues[key] = queue
                if batch:
                    await self._settle(key, batch)
        finally:
            # At once, not when the task is seen to be done: whoever comes in between would wait for nobody.
            self._busy -= 1

    def _batch(self, queue: deque[Waiting[Item, Result]]) -> list[Waiting[Item, Result]]:
        """Take the oldest; whoever shares a name with one of them stays for the next batch."""
        batch: list[Waiting[Item, Result]] = []
        taken: set[Hashable] = set()
        for _ in range(len(queue)):
            waiting = queue.popleft()
            if waiting.result.done():
                continue
            if len(batch) == self._most or taken & waiting.names:
                queue.append(waiting)
                continue
            taken |= waiting.names
            batch.append(waiting)
        return batch

    async def _settle(self, key: Key, batch: Sequence[Waiting[Item, Result]]) -> None:
        results: Sequence[Result | Exception]
        try:
            results = await self._write(key, [waiting.item for waiting in batch])
        except Exception as error:
            results = [error] * len(batch)
        for waiting, result in zip(batch, results, strict=True):
            # Whoever has hung up meanwhile has a result that nobody reads.
            if waiting.result.done():
                continue
            if isinstance(result, Exception):
                waiting.result.set_exception(result)
            else:
                waiting.result.set_result(result)
