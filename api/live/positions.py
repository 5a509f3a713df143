"""Where a stream stands, as the event ids that clients send back (`Last-Event-ID`).

They are sealed: a snapshot's numbers would tell each tenant how much is written in the whole installation.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from secrets import token_bytes
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from db.feed import Place

NONCE = 12
LONGEST = 8_000
"""Characters: a snapshot names every transaction that was under way."""
SNAPSHOT = re.compile(r"\d{1,18}:\d{1,18}:(?:\d{1,18}(?:,\d{1,18})*)?", re.ASCII)


@dataclass(frozen=True)
class RunPosition:
    """What a viewer of one run has been sent."""

    snapshot: str
    temporal_run: str
    """Digest of the Temporal run's id: after a reset rows may be gone, and the story begins anew."""
    row: str
    """Digest of the execution as it was sent."""
    is_end: bool = False

    def __str__(self) -> str:
        return "~".join((self.snapshot, self.temporal_run, self.row, "end" if self.is_end else "on"))

    @property
    def ended(self) -> "RunPosition":
        """The place behind the stream's last event."""
        return replace(self, is_end=True)

    @classmethod
    def read(cls, text: str | None) -> "RunPosition | None":
        """Read what a client sent back."""
        match (text or "")[:LONGEST].split("~"):
            case [snapshot, temporal_run, row, "end" | "on" as end] if is_snapshot(snapshot):
                return cls(snapshot, temporal_run, row, end == "end")
        return None


@dataclass(frozen=True)
class WorkspacePosition:
    """What a viewer of a workspace has been sent: everything that was there at a place."""

    place: Place

    def __str__(self) -> str:
        return f"{self.place.snapshot}~{self.place.at.isoformat()}"

    @classmethod
    def read(cls, text: str | None) -> "WorkspacePosition | None":
        """Read what a client sent back."""
        match (text or "").split("~"):
            case [snapshot, at] if is_snapshot(snapshot):
                return cls(Place(snapshot, datetime.fromisoformat(at)))
        return None


class Positions:
    """Writes and reads the places of one stream: of a run, or of a workspace."""

    def __init__(self, key: bytes, workspace_id: UUID, execution_id: UUID | None = None) -> None:
        """Prepare with a key of 32 bytes; what was written for another stream is not read."""
        self._cipher = AESGCM(key)
        self._about = workspace_id.bytes + (execution_id.bytes if execution_id else b"")

    def write(self, position: RunPosition | WorkspacePosition) -> str:
        """Seal a place as an event id."""
        nonce = token_bytes(NONCE)
        sealed = self._cipher.encrypt(nonce, str(position).encode(), self._about)
        return urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def read(self, text: str | None) -> RunPosition | None:
        """Open what a client of a run sent back; None for what is no place of this stream."""
        return RunPosition.read(self._opened(text))

    def read_workspace(self, text: str | None) -> WorkspacePosition | None:
        """Open what a client of a workspace sent back; None for what is no place of this stream."""
        return WorkspacePosition.read(self._opened(text))

    def _opened(self, text: str | None) -> str | None:
        try:
            sealed = urlsafe_b64decode((text or "")[:LONGEST].encode("ascii") + b"==")
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], self._about).decode()
        except (ValueError, InvalidTag):
            return None


def is_snapshot(text: str) -> bool:
    """Tell whether PostgreSQL takes a text for a snapshot."""
    if not SNAPSHOT.fullmatch(text):
        return False
    low, high, under_way = text.split(":")
    listed = list(map(int, filter(None, under_way.split(","))))
    ascending = all(one < other for one, other in pairwise(listed))
    inside = all(int(low) <= one < int(high) for one in listed)
    return 0 < int(low) <= int(high) and ascending and inside


def digest(value: Any) -> str:
    """Shorten a value to what tells it from another one."""
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
