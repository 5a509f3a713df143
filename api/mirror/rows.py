"""The rows that a projection asks for, and their ids: computed, so that a rebuild gives the same ones."""

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from db.jsonb import storable

MASK = "***"


@dataclass(frozen=True)
class StepRow:
    """One row of execution_steps, whole: a later one of the same key replaces it."""

    id: UUID
    node_id: str
    node_type: str
    label: str
    visit: int
    step_number: int
    status: str
    attempt: int = 1
    skip_reason: str | None = None
    handle: str | None = None
    input_data: Any = None
    output_data: Any = None
    error: dict[str, Any] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    updated_at: datetime | None = None
    """The time of the event that told it; no column."""


@dataclass(frozen=True)
class LogRow:
    """One history-derived row of execution_logs; created_at is the event's time."""

    id: UUID
    created_at: datetime
    log_level: str
    message: str
    data: Any
    run_id: str
    event_id: int | None
    execution_step_id: UUID | None = None
    node_id: str | None = None
    visit: int | None = None


@dataclass
class Changes:
    """What events changed since the last look."""

    execution: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, StepRow] = field(default_factory=dict)
    """By step key."""
    logs: list[LogRow] = field(default_factory=list)


def step_id(execution_id: UUID, key: str) -> UUID:
    """Derive a step's id from what it is."""
    return uuid5(execution_id, key)


def log_id(execution_id: UUID, run_id: str, *, at: datetime, event_id: int, ordinal: int) -> UUID:
    """Derive a log line's id as a UUIDv7, so that lines of one moment sort as the history has them."""
    salt = int.from_bytes(sha256(f"{execution_id}/{run_id}".encode()).digest()[:6])
    place = (event_id & 0xFFFF) << 14 | (ordinal & 0x3FFF)
    low = place << 44 | salt & (1 << 44) - 1
    milliseconds = int(at.timestamp() * 1000)
    rand_a, rand_b = low >> 62 & 0xFFF, low & (1 << 62) - 1
    return UUID(int=milliseconds << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)


def plain(row: StepRow | LogRow) -> dict[str, Any]:
    """Turn a row into JSON, as the statements of db/ take it."""
    stored: dict[str, Any] = storable(vars(row))
    return stored
