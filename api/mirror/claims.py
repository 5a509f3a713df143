"""Large payloads of a history, fetched before it is decoded: all of them at once instead of one by one."""

from collections.abc import Iterator, Sequence

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter

from activities.clients.blobs import ENCODING, is_claim
from activities.clients.keyring import NoKey
from activities.clients.payloads import Codec, Unreadable

UNREAD = frozenset(
    {
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    }
)
"""What these hold is an input that the projection does not look at."""


async def bring_in(events: Sequence[HistoryEvent], converter: DataConverter) -> None:
    """Put what claims stand for in their places, still encrypted, if all is there. Raises DBAPIError."""
    codec = converter.payload_codec
    if not isinstance(codec, Codec):
        return
    found = [each for event in events if _may_hold(event) for each in payloads_of(event) if is_claim(each)]
    try:
        brought = await codec.fetched(found) if found else []
    except (NoKey, Unreadable):
        # Then each is fetched where it is read, which tells what is missing; what nobody can read may be no
        # more than a signal that somebody sent.
        return
    for claim, content in zip(found, brought, strict=True):
        claim.CopyFrom(content)


def _may_hold(event: HistoryEvent) -> bool:
    # To write it out and search takes a twentieth of the time that it takes to walk through it.
    return event.event_type not in UNREAD and ENCODING in event.SerializeToString()


def payloads_of(message: Message) -> Iterator[Payload]:
    """Find every payload in a message, however deep."""
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        is_map = field.message_type.GetOptions().map_entry
        values = value.values() if is_map else value if isinstance(value, Sequence) else [value]
        for each in values:
            if isinstance(each, Message):
                yield from payloads_of(each)
