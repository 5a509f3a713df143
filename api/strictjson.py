"""Reading JSON so that whatever passes can be stored: PostgreSQL takes less than JSON allows."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from api import errors
from workflows.problems import pointer

MAX_KEYS = 10_000
BIGINT = 2**63
BIGINT_DIGITS = 19
BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00")


@dataclass(frozen=True)
class Refused:
    """Stands where a value cannot be accepted, until the walk knows its place."""

    code: str
    message: str
    malformed: bool = False


INFINITE = Refused("not_finite", "NaN and infinity are no numbers here.")
TOO_LARGE = Refused("integer_too_large", "An integer may have 64 bits at most.")
DUPLICATE = Refused("duplicate_key", "The object names a key twice.", malformed=True)
TOO_MANY = Refused("too_many_keys", f"An object may have {MAX_KEYS} keys at most.")
NUL = Refused("nul_character", "The character U+0000 cannot be stored.")
SURROGATE = Refused("lone_surrogate", "Half of a surrogate pair is no character.")


def loads(body: bytes, *, max_depth: int) -> Any:
    """Parse and check a body; raise Malformed for what is no JSON, Invalid for what we cannot hold."""
    value = _parse(_decode(body))
    # Only an escape can bring in U+0000 or half a pair: UTF-8 and the JSON grammar exclude both in the clear.
    for place, refused in _mistakes(value, [], max_depth, escapes=b"\\u" in body):
        _refuse(place, refused)
    return value


def _decode(body: bytes) -> str:
    if body.startswith(BOMS):
        raise errors.Malformed("The body must be UTF-8 without a byte order mark.")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise errors.Malformed("The body is not valid UTF-8.") from error


def _parse(text: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=lambda name: INFINITE,
        )
    except json.JSONDecodeError as error:
        raise errors.Malformed(
            f"The body is not valid JSON: {error.msg} at character {error.pos}."
        ) from error
    except RecursionError as error:
        raise errors.Invalid("The body is nested too deeply.") from error


def _object(pairs: list[tuple[str, Any]]) -> Any:
    if len(pairs) > MAX_KEYS:
        return TOO_MANY
    made = dict(pairs)
    return made if len(made) == len(pairs) else DUPLICATE


def _integer(digits: str) -> Any:
    # Python itself refuses to read integers of more than 4300 digits, by an error of its own.
    if len(digits.lstrip("-")) > BIGINT_DIGITS:
        return TOO_LARGE
    number = int(digits)
    return number if -BIGINT <= number < BIGINT else TOO_LARGE


def _float(digits: str) -> Any:
    number = float(digits)
    return number if math.isfinite(number) else INFINITE


def _mistakes(
    value: Any, path: list[str | int], depth: int, *, escapes: bool
) -> Iterator[tuple[str, Refused]]:
    if isinstance(value, Refused):
        yield pointer(*path), value
    elif isinstance(value, str):
        if escapes and (refused := _unstorable(value)):
            yield pointer(*path), refused
    elif isinstance(value, dict | list):
        if depth == 0:
            yield pointer(*path), Refused("too_deep", "The body is nested too deeply.")
            return
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if escapes and isinstance(key, str) and (refused := _unstorable(key)):
                yield pointer(*path), refused
                return
            path.append(key)
            yield from _mistakes(inner, path, depth - 1, escapes=escapes)
            path.pop()


def _unstorable(text: str) -> Refused | None:
    if "\x00" in text:
        return NUL
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return SURROGATE
    return None


def _refuse(place: str, refused: Refused) -> NoReturn:
    detail = errors.Detail(code=refused.code, message=refused.message, pointer=place)
    kind = errors.Malformed if refused.malformed else errors.Invalid
    raise kind(refused.message, errors=[detail])
