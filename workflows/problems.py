"""One problem found in what a person wrote: a rule, a template, a form or a graph."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict


class Code(NamedTuple):
    """What a code means, whatever it is about this time, and what to do about it."""

    meaning: str
    remedy: str


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


def placed(problem: Problem, document: Any) -> Problem:
    """Let a problem point to what is there: of what is missing, to where it is missing; `field` names it."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in problem.pointer.split("/")[1:]]
    known: list[str] = []
    for part in parts:
        if isinstance(document, Mapping) and part in document:
            document = document[part]
        elif isinstance(document, list) and _is_index(part, len(document)):
            document = document[int(part)]
        else:
            return problem.model_copy(update={"pointer": pointer(*known)})
        known.append(part)
    return problem


def _is_index(part: str, length: int) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 9 and int(part) < length


def pointer(*parts: str | int) -> str:
    """Join path parts to a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
