"""What Temporal keeps of our runs: payloads, compressed and encrypted with their workspace's key."""

import os
import zlib
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from uuid import UUID

from cryptography.exceptions import InvalidTag
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
)

from activities.clients.keyring import Key, Keyring

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


def is_sealed(payload: Payload) -> bool:
    """Tell a payload of ours from a plain one: what was recorded before there was a codec stays readable."""
    return payload.metadata.get("encoding") == ENCODING


def seal(payload: Payload, key: Key) -> Payload:
    """Encrypt a payload, compressed where that helps."""
    body = payload.SerializeToString()
    content = PLAIN + body
    if len(body) >= SMALLEST:
        content = min(content, DEFLATED + zlib.compress(body, LEVEL), key=len)
    nonce = os.urandom(NONCE_BYTES)
    return Payload(
        metadata={"encoding": ENCODING, KEY: key.name.encode()},
        data=nonce + key.cipher.encrypt(nonce, content, key.bound),
    )


def key_name(payload: Payload) -> str:
    """Name the key that a sealed payload was written with."""
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
    """Encrypts the payloads of one workflow, or of none in particular."""

    def __init__(self, keyring: Keyring, workflow_id: str | None = None) -> None:
        self.keyring = keyring
        self._workflow_id = workflow_id

    def with_context(self, context: SerializationContext) -> "Codec":
        """Take in which workflow's payloads are to come."""
        workflow_id: str | None = getattr(context, "workflow_id", None)
        return Codec(self.keyring, workflow_id) if workflow_id else self

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt with the current key of the workflow's workspace. Raises NoKey."""
        key = await self.keyring.writing(self._workflow_id)
        return [seal(payload, key) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what is encrypted, and learn whose workflow it is. Raises NoKey, Unreadable."""
        return [await self._read(each) if is_sealed(each) else each for each in payloads]

    async def _read(self, payload: Payload) -> Payload:
        key = await self.keyring.reading(key_name(payload))
        if self._workflow_id is not None and key.workspace_id is not None:
            known = self.keyring.owner(self._workflow_id)
            if known is None:
                self.keyring.tell(self._workflow_id, key.workspace_id)
            elif known != key.workspace_id:
                raise Unreadable("a payload was moved here from another workspace's run")
        return unseal(payload, key)


class Converter(DataConverter):
    """The SDK's, but for the work of taking in a workflow's id: it would build every part of itself anew."""

    def with_context(self, context: SerializationContext) -> "Converter":
        """Give a copy whose codec knows the workflow."""
        known = copy(self)
        if isinstance(self.payload_codec, Codec):
            object.__setattr__(known, "payload_codec", self.payload_codec.with_context(context))
        return known


def converter(keyring: Keyring) -> DataConverter:
    """Build the converter of every client and worker: models as JSON, encrypted, failures' texts as well."""
    return replace(
        Converter(pydantic_data_converter.payload_converter_class),
        payload_codec=Codec(keyring),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def tell(client: Client, workflow_id: str, workspace_id: UUID) -> None:
    """Say whose workflow is about to be started, so that nobody has to look it up."""
    codec = client.data_converter.payload_codec
    if isinstance(codec, Codec):
        codec.keyring.tell(workflow_id, workspace_id)
