"""Payloads too large for a history: PostgreSQL keeps them, encrypted, and the history a claim (ADR 0023)."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter
from temporalio.api.common.v1 import Payload

from db import blobs
from db.blobs import Place
from db.session import Database

ENCODING = b"binary/flowtrack-claim-1"
"""What stands in the place of a payload that lies in PostgreSQL."""
LARGEST = 8 * 1024 * 1024
"""Bytes of any payload, before it is compressed."""
AT_ONCE = 32
"""Blobs read in one statement."""
KEPT = 16 * 1024 * 1024
"""Bytes kept in memory: what a process writes it often reads next, as the result of a local activity."""
SECONDS = 60.0
"""How long they are: what is deleted is soon gone here, too."""
ID_BYTES, ADDRESS_BYTES = 16, 32


class TooLarge(ValueError):
    """No payload may be so large."""


def is_claim(payload: Payload) -> bool:
    """Tell what stands in the place of a payload from a payload."""
    return payload.metadata.get("encoding") == ENCODING


def claim(place: Place, metadata: Mapping[str, bytes]) -> Payload:
    """Write what stands in a history instead of what lies at a place."""
    return Payload(metadata={**metadata, "encoding": ENCODING}, data=place.execution_id.bytes + place.address)


def place_of(payload: Payload) -> Place | None:
    """Read where the content of a claim lies; None if it is no claim of ours."""
    if len(payload.data) != ID_BYTES + ADDRESS_BYTES:
        return None
    return Place(UUID(bytes=payload.data[:ID_BYTES]), payload.data[ID_BYTES:])


class Blobs:
    """Keeps large payloads of executions, each workspace's behind its own row-level security."""

    def __init__(self, database: Database, registry: CollectorRegistry | None = None) -> None:
        self._database = database
        self._kept: OrderedDict[tuple[UUID, Place], tuple[float, bytes]] = OrderedDict()
        """With the moment since when."""
        self._size = 0
        self._count = Counter(
            "flowtrack_payload_blobs",
            "Large payloads beside the histories: stored, read, missing",
            ["what"],
            registry=registry,
        )
        self._bytes = Counter(
            "flowtrack_payload_blob_bytes", "Their bytes: stored, read", ["what"], registry=registry
        )
        # A series that is there from the start can be alarmed on.
        self._count.labels("missing")

    async def keep(self, workspace_id: UUID, execution_id: UUID, contents: Mapping[bytes, bytes]) -> bool:
        """Store contents by their addresses; False if the execution has no row to go with. Raises DBAPIError.

        They are committed before anything that names them goes to Temporal.
        """
        async with self._database.workspace(workspace_id) as session:
            if not await blobs.store(session, workspace_id, execution_id, contents):
                return False
        self._note("stored", contents.values())
        for address, content in contents.items():
            self._remember(workspace_id, Place(execution_id, address), content)
        return True

    async def fetch(self, workspace_id: UUID, places: Sequence[Place]) -> dict[Place, bytes]:
        """Read what lies at places, as far as it is there. Raises DBAPIError."""
        self._drop_old()
        found = {
            place: self._kept[workspace_id, place][1]
            for place in places
            if (workspace_id, place) in self._kept
        }
        left = list(dict.fromkeys(place for place in places if place not in found))
        for start in range(0, len(left), AT_ONCE):
            async with self._database.workspace(workspace_id) as session:
                read = await blobs.load(session, workspace_id, left[start : start + AT_ONCE])
            self._note("read", read.values())
            for place, content in read.items():
                self._remember(workspace_id, place, content)
            found |= read
        self._count.labels("missing").inc(len(set(places)) - len(found))
        return found

    def _note(self, what: str, contents: Iterable[bytes]) -> None:
        sizes = [len(content) for content in contents]
        self._count.labels(what).inc(len(sizes))
        self._bytes.labels(what).inc(sum(sizes))

    def _remember(self, workspace_id: UUID, place: Place, content: bytes) -> None:
        self._size -= len(self._kept.pop((workspace_id, place), (0.0, b""))[1])
        self._kept[workspace_id, place] = monotonic(), content
        self._size += len(content)
        self._drop_old()

    def _drop_old(self) -> None:
        """Keep what is young, and no more than so much."""
        while self._kept:
            since, content = next(iter(self._kept.values()))
            if self._size <= KEPT and monotonic() - since < SECONDS:
                return
            self._kept.popitem(last=False)
            self._size -= len(content)
