"""What Temporal keeps of our runs: payloads, compressed and encrypted; of the large ones a claim."""

import os
import zlib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    ActivitySerializationContext,
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from temporalio.exceptions import ApplicationError

from activities.clients import blobs
from activities.clients.blobs import Blobs, TooLarge, is_claim, place_of
from activities.clients.keyring import Key, Keyring, execution_of
from db.blobs import Place
from workflows.room import INSIDE

ENCODING = b"binary/flowtrack-1"
"""What stands in the clear of a payload, with the name of its key; nothing of what it says."""
KEY = "key"
NONCE_BYTES = 12
PLAIN, DEFLATED = b"\0", b"\1"
"""Whether a payload was compressed is encrypted with it."""
SMALLEST = 512
"""Bytes below which compressing saves nothing (benchmarks/payloads.py)."""
LEVEL = 1


class Unreadable(ValueError):
    """A payload was changed, or moved here from another workspace's run."""


class Missing(Unreadable):
    """What a history names does not lie in PostgreSQL."""


@dataclass(frozen=True)
class HandedOver(WorkflowSerializationContext):
    """Of payloads that no history will keep: what a local activity is given, and commands of a replay."""


def is_sealed(payload: Payload) -> bool:
    """Tell a payload of ours from a plain one: what was recorded before there was a codec stays readable."""
    return payload.metadata.get("encoding") == ENCODING


def is_ours(payload: Payload) -> bool:
    """Tell what a codec of ours wrote, here or elsewhere, from a plain payload."""
    return is_sealed(payload) or is_claim(payload)


def seal(payload: Payload, key: Key) -> Payload:
    """Encrypt a payload, compressed where that helps."""
    return _sealed(_packed(payload), key, os.urandom(NONCE_BYTES))


def _packed(payload: Payload) -> bytes:
    body = payload.SerializeToString()
    if len(body) > blobs.LARGEST:
        raise TooLarge(f"a payload of {len(body):,} bytes is more than {blobs.LARGEST:,}")
    content = PLAIN + body
    if len(body) >= SMALLEST:
        content = min(content, DEFLATED + zlib.compress(body, LEVEL), key=len)
    return content


def _sealed(content: bytes, key: Key, nonce: bytes) -> Payload:
    return Payload(
        metadata={"encoding": ENCODING, KEY: key.name.encode()},
        data=nonce + key.cipher.encrypt(nonce, content, key.bound),
    )


def key_name(payload: Payload) -> str:
    """Name the key that a sealed payload, or what a claim stands for, was written with."""
    return payload.metadata.get(KEY, b"").decode("ascii", "replace")


def unseal(payload: Payload, key: Key) -> Payload:
    """Decrypt a payload. Raises Unreadable."""
    nonce, sealed = payload.data[:NONCE_BYTES], payload.data[NONCE_BYTES:]
    try:
        content = key.cipher.decrypt(nonce, sealed, key.bound)
    except (InvalidTag, ValueError) as error:
        raise Unreadable(f"a payload written with key {key.name} was changed") from error
    body = zlib.decompress(content[1:]) if content[:1] == DEFLATED else content[1:]
    return Payload.FromString(body)


class Codec(PayloadCodec, WithSerializationContext):
    """Encrypts the payloads of one workflow, or of none in particular; large ones it puts elsewhere."""

    def __init__(
        self, keyring: Keyring, blobs: Blobs | None = None, context: SerializationContext | None = None
    ) -> None:
        self.keyring = keyring
        self._blobs = blobs
        self._context = context
        self._workflow_id: str | None = getattr(context, "workflow_id", None)

    def with_context(self, context: SerializationContext) -> "Codec":
        """Take in which workflow's payloads are to come."""
        return Codec(self.keyring, self._blobs, context) if getattr(context, "workflow_id", None) else self

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt with the current key of the workflow's workspace. Raises NoKey, TooLarge, DBAPIError."""
        key = await self.keyring.writing(self._workflow_id)
        contents = [_packed(payload) for payload in payloads]
        if any(len(content) > INSIDE for content in contents):
            return await self._put(contents, key)
        return [_sealed(content, key, os.urandom(NONCE_BYTES)) for content in contents]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what is encrypted, and learn whose workflow it is. Raises NoKey, Unreadable, DBAPIError."""
        if any(map(is_claim, payloads)):
            payloads = await self.fetched(payloads)
        return [await self._read(each) if is_sealed(each) else each for each in payloads]

    async def fetched(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Put what lies in PostgreSQL in the place of claims, still encrypted. Raises as `decode` does."""
        by_workspace: dict[UUID, list[Place]] = {}
        for each in filter(is_claim, payloads):
            key, place = await self._key_of(each), place_of(each)
            if key.workspace_id is None or place is None:
                raise Unreadable(f"a claim written with key {key.name} was changed")
            by_workspace.setdefault(key.workspace_id, []).append(place)
        found: dict[Place, bytes] = {}
        for workspace_id, places in by_workspace.items():
            if self._blobs is not None:
                found |= await self._blobs.fetch(workspace_id, places)
        return [_brought(each, found) if is_claim(each) else each for each in payloads]

    async def _put(self, contents: Sequence[bytes], key: Key) -> list[Payload]:
        """Encrypt, and leave claims in the history for what is large."""
        execution_id = execution_of(self._workflow_id or "")
        is_handed_over = isinstance(self._context, HandedOver)
        if self._blobs is None or is_handed_over or execution_id is None or key.workspace_id is None:
            return [_sealed(content, key, os.urandom(NONCE_BYTES)) for content in contents]
        places = {
            number: Place(execution_id, key.address(execution_id, content))
            for number, content in enumerate(contents)
            if len(content) > INSIDE
        }
        # Written again, by a retry or by the run that continues this one, it is the same blob. Only the same
        # content has the same nonce, and by it what lies at an address shows that it belongs there.
        nonces = {number: place.address[:NONCE_BYTES] for number, place in places.items()}
        made = [
            _sealed(content, key, nonces.get(number) or os.urandom(NONCE_BYTES))
            for number, content in enumerate(contents)
        ]
        large = {place.address: made[number].data for number, place in places.items()}
        if await self._kept(self._blobs, key.workspace_id, execution_id, large):
            for number, place in places.items():
                made[number] = blobs.claim(place, made[number].metadata)
        return made

    async def _kept(
        self, blobs: Blobs, workspace_id: UUID, execution_id: UUID, large: Mapping[bytes, bytes]
    ) -> bool:
        try:
            return await blobs.keep(workspace_id, execution_id, large)
        except (DBAPIError, PoolTimeout):
            if not isinstance(self._context, ActivitySerializationContext):
                raise
            # This becomes the failure of a step, which is tried again: people read it.
            raise ApplicationError("The database is out of reach.", type="database_unavailable") from None

    async def _read(self, payload: Payload) -> Payload:
        return unseal(payload, await self._key_of(payload))

    async def _key_of(self, payload: Payload) -> Key:
        """Return the key of a payload; that of another workspace's run opens nothing here."""
        key = await self.keyring.reading(key_name(payload))
        if self._workflow_id is not None and key.workspace_id is not None:
            known = self.keyring.owner(self._workflow_id)
            if known is None:
                self.keyring.tell(self._workflow_id, key.workspace_id)
            elif known != key.workspace_id:
                raise Unreadable("a payload was moved here from another workspace's run")
        return key


def _brought(payload: Payload, found: Mapping[Place, bytes]) -> Payload:
    """Build the payload that a claim stands for."""
    place = place_of(payload)
    if place is None or place not in found:
        raise Missing(
            f"a large payload of execution {place.execution_id if place else None} is not in PostgreSQL's "
            "payload_blobs any more: restore it from a backup, or terminate the run and rerun it"
        )
    if found[place][:NONCE_BYTES] != place.address[:NONCE_BYTES]:
        raise Unreadable(f"a large payload of execution {place.execution_id} was changed")
    return Payload(metadata={"encoding": ENCODING, KEY: payload.metadata[KEY]}, data=found[place])


class Converter(DataConverter):
    """The SDK's, but for the work of taking in a workflow's id: it would build every part of itself anew."""

    def with_context(self, context: SerializationContext) -> "Converter":
        """Give a copy whose codec knows the workflow."""
        known = copy(self)
        if isinstance(self.payload_codec, Codec):
            object.__setattr__(known, "payload_codec", self.payload_codec.with_context(context))
        return known


def converter(keyring: Keyring, blobs: Blobs | None = None) -> DataConverter:
    """Build the converter of every client and worker: models as JSON, encrypted, failures' texts as well.

    Without `blobs` large payloads stay in their histories, as those of simulations do.
    """
    return replace(
        Converter(pydantic_data_converter.payload_converter_class),
        payload_codec=Codec(keyring, blobs),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def inside(kept: DataConverter) -> DataConverter:
    """Give a converter with the same keys that leaves large payloads in their histories, for simulations."""
    codec = kept.payload_codec
    return converter(codec.keyring) if isinstance(codec, Codec) else kept


def tell(client: Client, workflow_id: str, workspace_id: UUID) -> None:
    """Say whose workflow is about to be started, so that nobody has to look it up."""
    codec = client.data_converter.payload_codec
    if isinstance(codec, Codec):
        codec.keyring.tell(workflow_id, workspace_id)
