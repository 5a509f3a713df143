"""One problem found in what a person wrote: a rule, a template, a form or a graph."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    """What is wrong, where, and what to do about it."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    remedy: str = ""
    severity: Literal["error", "warning"] = "error"
    """A warning is told, and stops nothing."""
    pointer: str = ""
    node_id: str | None = None
    field: str | None = None
    line: int | None = None
    column: int | None = None


def pointer(*parts: str | int) -> str:
    """Join path parts to a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
