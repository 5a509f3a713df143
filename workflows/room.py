"""How much one workflow task may carry: the server ends a run that brings it more than 4 MiB at once.

Results of local activities gather in the task until none is under way; only then it is sent.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow

from workflows.messages import SIMULATION, ExecutionInput, StepInput
from workflows.scopes import weight

CARRIED_CAP = 3 * 1024 * 1024
OUTPUT = 256 * 1024
"""The most that a local activity may bring back (design §5)."""
BESIDE = 1024
"""What stands around every result: the key, the summary, the event itself."""
HEAVIEST = 1792 * 1024
"""Bytes of one payload in a history: the server takes 2 MiB, and a codec may add its own."""
INSIDE = 64 * 1024
"""Bytes, compressed, of what stays in the history at all; the rest lies beside it (ADR 0023)."""
LARGEST = 6 * 1024 * 1024
"""Bytes of one payload that lies beside it; the codec takes more."""
GROWN = 16 * 1024 * 1024
"""Bytes that steps gave after which a run continues as new: the server counts only what it holds itself."""
EXACTLY = 4096
"""What weighs more is measured instead of guessed."""
NEXT_TASK = timedelta(milliseconds=1)


class Room:
    """Counts what the present task carries, and ends it when it is full.

    All it looks at is in history, so a replay finds the same.
    """

    def __init__(self) -> None:
        self._carried = 0
        self._given = 0
        self._under_way = 0
        self._is_turning = False

    async def enter(self) -> None:
        """Wait until the result of one more local activity has its place."""
        await self._wait_for(OUTPUT)
        self._under_way += 1

    def leave(self, size: int) -> None:
        """Note what a local activity brought."""
        self._under_way -= 1
        self._given += size
        self._carried += size + BESIDE

    async def send(self, size: int) -> None:
        """Wait until a command of so many bytes, which `fits`, has its place."""
        size = INSIDE if size > HEAVIEST else size
        await self._wait_for(size + BESIDE)
        self._carried += size + BESIDE

    def clear(self, size: int = 0) -> None:
        """Note that something came from outside: it came with a new task."""
        self._given += size
        self._carried = 0

    @property
    def has_grown(self) -> bool:
        """Tell whether the run was given so much that whoever reads it at once has a lot to hold."""
        return self._given > GROWN and lies_beside()

    def _has(self, size: int) -> bool:
        return self._carried + self._under_way * OUTPUT + size <= CARRIED_CAP

    async def _wait_for(self, size: int) -> None:
        while not self._has(size):
            if self._under_way:
                await workflow.wait_condition(lambda: self._has(size) or not self._under_way)
            elif self._is_turning:
                await workflow.wait_condition(lambda: not self._is_turning)
            else:
                await self._turn()

    async def _turn(self) -> None:
        """End the task: what a timer wakes is in the next one."""
        self._is_turning = True
        try:
            await asyncio.sleep(NEXT_TASK.total_seconds())
            self._carried = 0
        finally:
            self._is_turning = False


def lies_beside() -> bool:
    """Tell whether what is large lies beside the history: not in simulations, nor in runs from before."""
    return SIMULATION not in workflow.info().raw_memo and workflow.patched("large-payloads")


def fits(size: int) -> bool:
    """Tell whether Temporal, or what lies beside it, takes a payload of so many bytes."""
    return size <= HEAVIEST or (size <= LARGEST and lies_beside())


def bytes_of(given: StepInput | ExecutionInput) -> int:
    """Return the size of what is about to be sent; of small steps about."""
    if isinstance(given, StepInput):
        data = [given.scope, given.node.config, given.trigger, given.inputs]
        about = weight([*data, [event.data for event in given.heard]], cap=EXACTLY)
        if about <= EXACTLY:
            return about
    return len(workflow.payload_converter().to_payload(given).data)
