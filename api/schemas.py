"""What the models of several resources share."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field


class Given(BaseModel):
    """What a client sends: unknown keys are refused, by name."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Shown(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(from_attributes=True)


Id = Annotated[UUID, Path(examples=["01936f1e-7c3a-7bd0-8f53-2f6a1c3b9d10"])]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
ShortText = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
LongText = Annotated[str, Field(max_length=5000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
JsonObject = dict[str, Any]


def at_most(size: int) -> AfterValidator:
    """Limit a JSON value by its length in bytes: what is stored also travels through Temporal."""

    def check(value: JsonObject) -> JsonObject:
        if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > size:
            raise ValueError(f"has more than {size} bytes as JSON")
        return value

    return AfterValidator(check)


Settings = Annotated[JsonObject, at_most(64 * 1024)]
Data = Annotated[JsonObject, at_most(256 * 1024)]
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _sensible(at: datetime) -> datetime:
    """Refuse what no clock shows: at the ends of the calendar, reckoning with a time has no result."""
    if not EARLIEST <= at < LATEST:
        raise ValueError("must lie in the years 2000 to 2199")
    return at


Moment = Annotated[AwareDatetime, AfterValidator(_sensible)]
"""A time that a caller filters by."""
Filter = Annotated[str, Field(min_length=1, max_length=320, pattern=r"^[^\x00-\x1f\x7f]+$")]
