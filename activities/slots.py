"""Which runs a process that starts runs carries out itself."""

import asyncio

from temporalio.worker import CustomSlotSupplier, SlotPermit, SlotReleaseContext, SlotReserveContext


class OwnRuns(CustomSlotSupplier):
    """Room for runs that start in this process and for what becomes of those; others go to the workers."""

    def __init__(self, most: int) -> None:
        self._left = most

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Let the queue of this process alone be polled, where its own runs go on."""
        if not ctx.is_sticky:
            await asyncio.Event().wait()
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """Take a run that starts here, if there is room."""
        if not self._left:
            return None
        self._left -= 1
        return Started()

    def mark_slot_used(self, ctx: object) -> None:
        """Know it already."""

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Make room again."""
        self._left += isinstance(ctx.permit, Started)


class Started(SlotPermit):
    """The permit of a run that started here."""
