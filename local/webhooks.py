"""The webhook inbox of `flowtrack up`: keeps what the demo's endpoint is sent, byte for byte."""

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

PATH = "/webhooks"


@dataclass(frozen=True)
class Received:
    """One POST, as it arrived."""

    id: str
    headers: dict[str, str]
    body: str
    received_at: str


class Inbox:
    """The folder of received webhooks, one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, headers: dict[str, str], body: bytes) -> str:
        """Store a POST and name it; ids sort by arrival."""
        name = f"{time.time_ns():020d}"
        now = datetime.now(UTC).isoformat()
        received = Received(name, headers, body.decode("utf-8", errors="replace"), now)
        draft = self.folder / f"{name}.part"
        draft.write_text(json.dumps(asdict(received)))
        draft.rename(self.folder / f"{name}.json")
        return name

    def received(self) -> list[dict[str, object]]:
        """Read everything received, the oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]
