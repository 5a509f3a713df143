"""What a rerun starts with, read from the history of the run that it repeats: exact, or not at all."""

from temporalio.client import Client

from api.mirror.history import Histories, UnknownRun
from api.mirror.pages import Pages
from api.mirror.projection import Projection
from db.starts import Rerun
from workflows.graph import Graph
from workflows.messages import RunState
from workflows.rewind import Unkept, rewind

LARGEST = 1_500_000
"""Bytes of a state; Temporal refuses a start with 2 MiB."""


class Rewinder:
    """Reads through one Temporal client."""

    def __init__(self, client: Client) -> None:
        self._histories = Histories(client)

    async def state(self, rerun: Rerun, graph: Graph, trigger_id: str) -> RunState | None:
        """Go back in a run that is over; None if nothing of it is kept. Raises Unkept, or RPCError.

        Its last run's first event holds what the runs before it had come to, so that one is enough.
        """
        projection = Projection(Pages(rerun.of))
        try:
            raw = await self._histories.since(rerun.of, "", event_id=0)
        except UnknownRun as error:
            raise Unkept(
                "history_gone",
                "Temporal no longer has the earlier run's history, so it cannot be kept exactly.",
                "Rerun from the start.",
            ) from error
        projection.apply(await self._histories.decode(raw))
        if projection.ended is None:
            raise Unkept("execution_open", "The earlier run has not ended.", "Cancel it or let it end first.")
        state = rewind(projection.run, graph, trigger_id=trigger_id, node_id=rerun.node_id)
        if state is not None and len(state.model_dump_json()) > LARGEST:
            raise Unkept(
                "rerun_too_large",
                f"What would be kept has more than {LARGEST} bytes.",
                "Rerun from the start, or from an earlier node.",
            )
        return state
