"""How the tests' clients read what other tests' runs wrote: as runs of strangers, without their keys."""

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from activities.clients.keyring import KeyGone
from activities.clients.payloads import is_ours


class Stranger(PayloadCodec):
    """Reads and writes in the clear, and has no key to anything."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Leave everything as it is."""
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Say what a keyring says of keys that it does not have."""
        if any(map(is_ours, payloads)):
            raise KeyGone("written by another test")
        return list(payloads)
