"""Pages by keyset: `{data, next_cursor}`; a cursor is opaque, signed, and good for its own list only."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest, digest
from typing import Annotated, Any, Generic, TypeVar, cast

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api import errors
from api.auth import Authenticated, Caller
from api.deps import Config, OurPlatform

Item = TypeVar("Item")
One = TypeVar("One")
Other = TypeVar("Other")
SIGNATURE = 16


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    data: Sequence[Item]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null at the end.")


class Window(BaseModel):
    """How much of a list is asked for; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=100, description="How many to return at most.")
    cursor: str | None = Field(None, max_length=1024, description="`next_cursor` of the page before.")


class Cursors:
    """Seals and opens the cursors of one list of one workspace, with one set of filters."""

    def __init__(self, config: Config, caller: Caller, path: str, window: Window) -> None:
        filters = window.model_dump(mode="json", exclude={"limit", "cursor"}, exclude_none=True)
        self._context = json.dumps([str(caller.workspace_id), path, filters], sort_keys=True).encode()
        self._key = config.derive("cursor")
        self._window = window

    def position(self, kind: type[One]) -> One | None:
        """Open the client's cursor: the sort key of the last item it has seen."""
        values = self._open(kind)
        return cast(One, values[0]) if values else None

    def pair(self, first: type[One], second: type[Other]) -> tuple[One, Other] | None:
        """Open a cursor of two parts."""
        values = self._open(first, second)
        return cast(tuple[One, Other], values) if values else None

    def seal(self, *key: Any) -> str:
        """Write the sort key of an item as a cursor."""
        body = json.dumps([str(part) for part in key], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sign(body) + body).decode().rstrip("=")

    def page(self, found: Sequence[Any], *key: str) -> tuple[Sequence[Any], str | None]:
        """Cut the one item too many that tells whether there is a next page."""
        shown = found[: self._window.limit]
        more = len(found) > self._window.limit
        return shown, self.seal(*(getattr(shown[-1], name) for name in key)) if more else None

    def _open(self, *kinds: type[Any]) -> tuple[Any, ...] | None:
        if self._window.cursor is None:
            return None
        try:
            sealed = base64.urlsafe_b64decode(self._window.cursor.encode("ascii") + b"==")
            signature, body = sealed[:SIGNATURE], sealed[SIGNATURE:]
            if not compare_digest(signature, self._sign(body)):
                raise errors.InvalidCursor()
            values = json.loads(body)
            return tuple(_read(kind, value) for kind, value in zip(kinds, values, strict=True))
        except (ValueError, TypeError) as error:
            raise errors.InvalidCursor() from error

    def _sign(self, body: bytes) -> bytes:
        return digest(self._key, self._context + b"\x00" + body, "sha256")[:SIGNATURE]


def _read(kind: type[Any], text: str) -> Any:
    return kind.fromisoformat(text) if hasattr(kind, "fromisoformat") else kind(text)


@dataclass(frozen=True)
class Paging:
    """Makes the cursors of the list that is asked for."""

    config: Config
    caller: Caller
    path: str

    def of(self, window: Window) -> Cursors:
        """Tie the cursors to this list, this workspace and these filters."""
        return Cursors(self.config, self.caller, self.path, window)


async def _paging(request: Request, platform: OurPlatform, caller: Authenticated) -> Paging:
    return Paging(platform.config, caller, request.url.path)


OurPaging = Annotated[Paging, Depends(_paging)]
Windowed = Annotated[Window, Query()]
