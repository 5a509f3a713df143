"""Which workspace a workflow's payloads belong to, and the keys they are written and read with (ADR 0020).

What is asked for every payload is answered from memory: whoever starts a workflow tells whose it is, and
whoever reads one of its payloads learns it from the payload's key. PostgreSQL is asked once a minute for each
workspace whether its key is still there and still the current one.
"""

import asyncio
import hmac
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db import doors, payload_keys, secrets
from db.payload_keys import DataKey
from db.session import Database

PREFIX = "execution-"
FRESH = 60.0
"""Seconds after which a key is looked at again: by then a new one writes, and a deleted one is gone."""
STALE = 900.0
"""Seconds that a key is kept while PostgreSQL does not answer."""
AGAIN = 5.0
"""Seconds until PostgreSQL is asked again that did not answer."""
MOST_WORKFLOWS = 20_000
MOST_KEYS = 10_000
NAME = re.compile(r"[0-9a-f]{32}")
"""How a key's name is written. It stands in the clear: anybody may write another; nothing is kept of that."""

Name = str | UUID
"""A key by its name, or the current one by its workspace."""
Asked = TypeVar("Asked", str, UUID)


class NoKey(RuntimeError):
    """There is no key for this."""


class KeyGone(NoKey):
    """Its key is not there: its workspace was deleted, or it was written in another installation."""


class KeyShut(NoKey):
    """Its key is there, and was sealed by another master key than ours."""


@dataclass
class Key:
    """A key in memory, and how long it may be used without a look at PostgreSQL."""

    name: str
    """What stands in the clear beside a payload; it says nothing of the workspace."""
    workspace_id: UUID | None
    """None is the installation."""
    cipher: AESGCM = field(repr=False)
    addresses: bytes = field(repr=False)
    """Another secret, of which the addresses of large payloads are made."""
    fresh_until: float
    kept_until: float

    @property
    def bound(self) -> bytes:
        """Give what a payload is bound to: it opens under this key in this workspace's name, and no other."""
        owner = self.workspace_id.bytes if self.workspace_id else b""
        return b"flowtrack payload 1 " + self.name.encode() + owner

    def address(self, execution_id: UUID, content: bytes) -> bytes:
        """Give the one place where an execution keeps this content; it tells nothing to who has no key."""
        made = hmac.new(self.addresses, execution_id.bytes, "sha256")
        made.update(content)
        return made.digest()


def opened(name: str, workspace_id: UUID | None, secret: bytes, *, fresh: float, kept: float) -> Key:
    """Make ready what a secret is needed for; `fresh` and `kept` are moments."""
    addresses = hmac.digest(secret, b"flowtrack payload addresses 1", "sha256")
    return Key(name, workspace_id, AESGCM(secret), addresses, fresh, kept)


def execution_of(workflow_id: str) -> UUID | None:
    """Read the execution out of a workflow's name; None for workflows that are not executions."""
    try:
        return UUID(workflow_id.removeprefix(PREFIX)) if workflow_id.startswith(PREFIX) else None
    except ValueError:
        return None


class Keyring:
    """Holds keys for one event loop; a deleted workspace's leave its memory without anybody asking."""

    def __init__(
        self, database: Database, master_key: bytes, *, fresh: float = FRESH, stale: float = STALE
    ) -> None:
        self._database = database
        self._master_key = master_key
        self._fresh, self._stale = fresh, stale
        self._owners: OrderedDict[str, UUID] = OrderedDict()
        self._keys: OrderedDict[Name, Key] = OrderedDict()
        self._missing: OrderedDict[str, float] = OrderedDict()
        """Until when there is no need to look again for a key that is not there."""
        self._sweep: asyncio.TimerHandle | None = None
        name, secret = secrets.installation_key(key=master_key)
        for_ever = float("inf")
        self._own = opened(name, None, secret, fresh=for_ever, kept=for_ever)

    def tell(self, workflow_id: str, workspace_id: UUID) -> None:
        """Say whose a workflow is, before its first payload is written."""
        self._owners[workflow_id] = workspace_id
        self._owners.move_to_end(workflow_id)
        if len(self._owners) > MOST_WORKFLOWS:
            self._owners.popitem(last=False)

    def owner(self, workflow_id: str) -> UUID | None:
        """Name the workspace whose workflow it is, as far as it is known here."""
        return self._owners.get(workflow_id)

    async def writing(self, workflow_id: str | None) -> Key:
        """Return the key that a workflow's payloads are written with. Raises NoKey, DBAPIError."""
        workspace_id = self._owners.get(workflow_id) if workflow_id else None
        if workspace_id is None and workflow_id and workflow_id.startswith(PREFIX):
            workspace_id = await self._looked_up(workflow_id)
        return self._own if workspace_id is None else await self.current(workspace_id)

    async def current(self, workspace_id: UUID) -> Key:
        """Return a workspace's current key, made now if it has none. Raises NoKey, DBAPIError."""
        return self._at_hand(workspace_id) or await self._looked_at(workspace_id, self._read_current)

    async def reading(self, name: str) -> Key:
        """Return the key of this name. Raises NoKey, DBAPIError."""
        if name == self._own.name:
            return self._own
        key = self._at_hand(name)
        if key is not None:
            return key
        if not NAME.fullmatch(name):
            raise KeyGone(f"no key is named {name[:40]!r} here")
        if self._missing.get(name, 0.0) > monotonic():
            raise KeyGone(f"there is no key {name[:40]!r}: its workspace was deleted, or never here")
        return await self._looked_at(name, self._read_named)

    @property
    def held(self) -> int:
        """Count the keys in memory."""
        return len(set(map(id, self._keys.values())))

    def forget(self, workspace_id: UUID) -> None:
        """Look for a workspace's current key before the next is written: it was rotated."""
        self._keys.pop(workspace_id, None)

    async def _looked_up(self, workflow_id: str) -> UUID:
        execution_id = execution_of(workflow_id)
        if execution_id is None:
            raise KeyGone("this workflow is no execution of ours")
        async with self._database.door() as session:
            found = await doors.execution(session, execution_id)
        if found is None:
            raise KeyGone(f"execution {execution_id} is in no workspace: it was deleted")
        self.tell(workflow_id, found)
        return found

    def _at_hand(self, name: Name) -> Key | None:
        key = self._keys.get(name)
        return key if key is not None and key.fresh_until > monotonic() else None

    async def _looked_at(self, name: Asked, read: Callable[[Asked], Awaitable[DataKey]]) -> Key:
        """Look in PostgreSQL; while it is away, what is at hand will do."""
        known = self._keys.get(name)
        if known is not None and known.kept_until < monotonic():
            known = None
        if known is not None:
            # One looks for all: the others go on with what they have meanwhile.
            known.fresh_until = monotonic() + AGAIN
        try:
            found = await read(name)
        except NoKey:
            if known is not None:
                self._drop(known)
            raise
        except (DBAPIError, PoolTimeout, OSError):
            if known is None:
                raise
            return known
        now = monotonic()
        until = {"fresh": now + self._fresh, "kept": now + self._stale}
        key = opened(found.id.hex, found.workspace_id, found.key, **until)
        # What writes also reads: the run that is written next is read by this process, too.
        places: tuple[Name, ...] = (name, key.name)
        for place in places:
            self._keys[place] = key
            self._keys.move_to_end(place)
        while len(self._keys) > MOST_KEYS:
            self._keys.popitem(last=False)
        self._sweep = self._sweep or asyncio.get_running_loop().call_later(self._stale, self._drop_old)
        return key

    def _drop(self, gone: Key) -> None:
        self._keys.pop(gone.name, None)
        if gone.workspace_id is not None and self._keys.get(gone.workspace_id) is gone:
            del self._keys[gone.workspace_id]

    def _drop_old(self) -> None:
        """Drop what nobody looked at for long: of a deleted workspace nothing stays in memory."""
        now = monotonic()
        self._keys = OrderedDict((name, key) for name, key in self._keys.items() if key.kept_until > now)
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(self._stale, self._drop_old) if self._keys else None

    async def _read_current(self, workspace_id: UUID) -> DataKey:
        try:
            async with self._database.workspace(workspace_id) as session:
                return await payload_keys.current(session, workspace_id, key=self._master_key)
        except (IntegrityError, LookupError) as error:
            raise KeyGone(f"workspace {workspace_id} has no key: it was deleted") from error
        except secrets.Unopenable as error:
            raise KeyShut(f"the key of workspace {workspace_id} was sealed by another master key") from error

    async def _read_named(self, name: str) -> DataKey:
        key_id = UUID(name)
        try:
            async with self._database.door() as session:
                found = await payload_keys.by_id(session, key_id, key=self._master_key)
        except secrets.Unopenable as error:
            raise KeyShut(f"key {key_id} was sealed by another master key") from error
        if found is None:
            # A key is stored before anything is written with it: what is missing now stays so.
            self._missing[name] = monotonic() + self._fresh
            if len(self._missing) > MOST_KEYS:
                self._missing.popitem(last=False)
            raise KeyGone(f"there is no key {key_id}: its workspace was deleted, or never here")
        return found
