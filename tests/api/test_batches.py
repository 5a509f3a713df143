"""Writing together: nobody waits for a batch to fill, and nobody's failure or absence is another's."""

import asyncio
from collections.abc import Sequence

import pytest

from api.batches import Batches
from api.traffic import BUSY, Traffic

pytestmark = pytest.mark.anyio


class Writer:
    """Notes what is written together, and lets nothing through until told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()

    async def __call__(self, key: str, items: Sequence[str]) -> list[str | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        return [ValueError(item) if item == "bad" else item.upper() for item in items]


async def test_the_first_goes_at_once_and_those_that_come_meanwhile_go_together():
    writer = Writer()
    batches = Batches[str, str, str](writer, lanes=1, most=3)
    waiting = [asyncio.create_task(batches.add("k", item)) for item in "a"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(batches.add("k", item)) for item in "bcde"]
    await asyncio.sleep(0)
    writer.gate.set()
    assert await asyncio.gather(*waiting) == ["A", "B", "C", "D", "E"]
    assert writer.batches == [["a"], ["b", "c", "d"], ["e"]]


async def test_who_comes_as_a_writer_ends_is_written_too():
    writer = Writer()
    writer.gate.set()
    batches = Batches[str, str, str](writer, lanes=1, most=9)
    async with asyncio.timeout(1):
        assert [await batches.add("k", item) for item in "abc"] == ["A", "B", "C"]


async def test_what_shares_a_name_or_has_another_key_never_goes_together():
    writer = Writer()
    writer.gate.set()
    batches = Batches[str, str, str](writer, lanes=1, most=9, names=lambda item: frozenset({item}))
    added = (("k", "a"), ("k", "a"), ("k", "b"), ("l", "c"))
    assert await asyncio.gather(*(batches.add(*one) for one in added)) == ["A", "A", "B", "C"]
    assert sorted(writer.batches) == [["a"], ["a", "b"], ["c"]]


async def test_a_failure_is_its_own_and_who_has_hung_up_is_left_out():
    writer = Writer()
    batches = Batches[str, str, str](writer, lanes=1, most=9)
    first, bad, gone, last = (asyncio.create_task(batches.add("k", item)) for item in ("a", "bad", "x", "b"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    writer.gate.set()
    found = await asyncio.gather(first, bad, last, return_exceptions=True)
    assert (found[0], str(found[1]), found[2]) == ("A", "bad", "B")
    assert all("x" not in batch for batch in writer.batches)


async def test_other_work_goes_on_at_once_unless_many_submissions_wait():
    traffic, loop = Traffic(), asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(traffic.give_way() for _ in range(100)))
    assert loop.time() - began < 0.02
    begun = [traffic.submission() for _ in range(BUSY)]
    for submission in begun:
        submission.__enter__()
    began = loop.time()
    await asyncio.gather(*(traffic.give_way() for _ in range(5)))
    assert loop.time() - began >= 0.1
