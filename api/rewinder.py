"""What a rerun starts with, read from the history of the run that it repeats: exact, or not at all."""

from uuid import UUID

import structlog
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from api.mirror.history import Histories, UnknownRun
from api.mirror.pages import Pages
from api.mirror.projection import Projection
from db.starts import Rerun
from workflows.graph import Graph
from workflows.messages import RunState
from workflows.rewind import Unkept, rewind
from workflows.run import Run

log = structlog.get_logger()

LARGEST = 4 * 1024 * 1024
"""Bytes of a state; a start takes 8 MiB, with the graph and the trigger's data."""


class Rewinder:
    """Reads through one Temporal client."""

    def __init__(self, client: Client) -> None:
        self._histories = Histories(client)

    async def state(self, rerun: Rerun, graph: Graph, trigger_id: str) -> RunState | None:
        """Go back in a run that is over; None if nothing of it is kept. Raises Unkept, or RPCError.

        Its last run's first event holds what the runs before it had come to, so that one is enough.
        """
        try:
            raw = await self._histories.since(rerun.of, "", event_id=0)
        except UnknownRun as error:
            raise Unkept(
                "history_gone",
                "Temporal no longer has the earlier run's history, so it cannot be kept exactly.",
                "Rerun from the start.",
            ) from error
        try:
            run = await self._told(rerun.of, raw)
            state = rewind(run, graph, trigger_id=trigger_id, node_id=rerun.node_id)
        except (ValueError, LookupError, TypeError, ArithmeticError, RuntimeError) as error:
            # Written by other code than ours is now; whoever starts runs must not fall over it.
            log.exception("history of a rerun", rerun_of=str(rerun.of))
            message = f"The earlier run's history cannot be read: {type(error).__name__}."
            raise Unkept("history_unreadable", message, "Rerun from the start.") from error
        if state is not None and len(state.model_dump_json()) > LARGEST:
            raise Unkept(
                "rerun_too_large",
                f"What would be kept has more than {LARGEST} bytes.",
                "Rerun from the start, or from an earlier node.",
            )
        return state

    async def _told(self, execution_id: UUID, raw: list[HistoryEvent]) -> Run:
        """Follow the history to its end."""
        projection = Projection(Pages(execution_id))
        projection.apply(await self._histories.decode(raw))
        if projection.ended is None:
            raise Unkept("execution_open", "The earlier run has not ended.", "Cancel it or let it end first.")
        return projection.run
