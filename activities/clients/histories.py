"""A history as JSON, as `temporal workflow show` and the Web UI write it, with its payloads made readable."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from temporalio.api.common.v1 import Payload

from activities.clients.blobs import Blobs
from activities.clients.keyring import Keyring, NoKey
from activities.clients.payloads import Codec, Unreadable

JSON = (b"json/plain", b"json/protobuf")
NULL = b"binary/null"
FAILURE = "encodedAttributes"

Opener = Callable[[Payload], Awaitable[Payload]]


def opener(keyring: Keyring, blobs: Blobs | None = None) -> Opener:
    """Open whatever these keys open, and fetch what large payloads left behind; the rest stays as it is."""
    codec = Codec(keyring, blobs)

    async def open_(payload: Payload) -> Payload:
        try:
            (opened,) = await codec.decode([payload])
        except (NoKey, Unreadable):
            return payload
        return opened

    return open_


async def decoded(value: Any, open_: Opener, *, as_payloads: bool = False) -> Any:
    """Copy JSON with every payload in it opened: as the value that it holds, or still as a payload.

    With `as_payloads` the copy is a history like the one before, which replays without any key.
    """
    if isinstance(value, list):
        return [await decoded(each, open_, as_payloads=as_payloads) for each in value]
    if not isinstance(value, Mapping):
        return value
    payload = _payload(value)
    if payload is not None:
        opened = await open_(payload)
        return MessageToDict(opened) if as_payloads else _shown(opened)
    copy = {key: await decoded(each, open_, as_payloads=as_payloads) for key, each in value.items()}
    return copy if as_payloads else _told(copy)


def _payload(value: Mapping[str, Any]) -> Payload | None:
    """Read an object as a payload; None if it is anything else."""
    metadata = value.get("metadata")
    if not isinstance(metadata, Mapping) or "encoding" not in metadata:
        return None
    try:
        return ParseDict(dict(value), Payload())
    except (ParseError, ValueError):
        return None


def _shown(payload: Payload) -> Any:
    encoding = payload.metadata.get("encoding")
    try:
        if encoding in JSON:
            return json.loads(payload.data)
    except ValueError:
        pass
    return None if encoding == NULL else MessageToDict(payload)


def _told(value: dict[str, Any]) -> dict[str, Any]:
    """Put a failure's text back where it stood before it was encrypted."""
    text = value.get(FAILURE)
    if not isinstance(text, Mapping) or "message" not in text:
        return value
    told = {"message": text["message"], "stackTrace": text.get("stack_trace", "")}
    return {**{key: each for key, each in value.items() if key != FAILURE}, **told}
