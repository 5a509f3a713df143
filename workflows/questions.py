"""What a form asks: its fields (ERD section 8), and what can be wrong with their definitions."""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Key
from pydantic.alias_generators import to_camel

from workflows import patterns
from workflows.problems import Problem, pointer

FIELDS_CAP = 100
ANSWER_CAP = 5_000
OPTIONS_CAP = 200
NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,10})?", re.ASCII)
# Control characters but for tab and line breaks, and halves of surrogate pairs, which UTF-8 cannot carry.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_FIELD_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class FieldType(StrEnum):
    """The kinds of question a form can ask."""

    TEXT = "TEXT"
    EMAIL = "EMAIL"
    DROPDOWN = "DROPDOWN"
    NUMBER = "NUMBER"
    DATE = "DATE"
    CHECKBOX = "CHECKBOX"


class Validation(BaseModel):
    """What an answer must meet beyond its type; min and max are numbers or, for DATE, days."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    min: float | str | None = None
    max: float | str | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None


class Field(BaseModel):
    """One question of a form, as the workflow's author wrote it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    field_key: str
    label: str = ""
    field_type: FieldType
    options: tuple[str, ...] = ()
    is_required: bool = False
    placeholder: str | None = None
    help_text: str | None = None
    validation: Validation = Key(default_factory=Validation)

    @property
    def name(self) -> str:
        """What a person calls the field."""
        return self.label or self.field_key

    def stored(self) -> dict[str, Any]:
        """Write the definition as JSON, without what was left open."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def field_problems(field: Field, *, at: Sequence[str | int] = ()) -> list[Problem]:
    """List what is wrong with a field's definition."""
    found = [*_naming(field), *_options(field), *_limits(field)]
    return [
        Problem(code=code, message=message, pointer=pointer(*at, *key.split("/")), field=field.field_key)
        for code, key, message in found
    ]


def form_problems(fields: Sequence[Field]) -> list[Problem]:
    """List what is wrong with a form: each field, its keys together, and its size."""
    found = [problem for place, field in enumerate(fields) for problem in field_problems(field, at=(place,))]
    keys = [field.field_key for field in fields]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            where, message = (
                pointer(place, "field_key"),
                f"{key!r} is used twice; give each field its own key",
            )
            found.append(Problem(code="duplicate_field_key", message=message, pointer=where, field=key))
    if len(fields) > FIELDS_CAP:
        found.append(Problem(code="too_many_fields", message=f"a form has at most {FIELDS_CAP} fields"))
    return found


_Finding = tuple[str, str, str]


def _naming(field: Field) -> Iterable[_Finding]:
    if not _FIELD_KEY.fullmatch(field.field_key):
        yield (
            "invalid_field_key",
            "field_key",
            "a field key is a letter followed by up to 63 letters, digits or underscores, such as budget_usd",
        )
    for key, text, cap in (
        ("label", field.label, 500),
        ("placeholder", field.placeholder, 500),
        ("help_text", field.help_text, 2_000),
    ):
        if text and (len(text) > cap or UNPRINTABLE.search(text)):
            yield "invalid_text", key, f"{key} is at most {cap} characters without control characters"


def _options(field: Field) -> Iterable[_Finding]:
    if field.field_type is not FieldType.DROPDOWN:
        if field.options:
            yield "unexpected_options", "options", "only a DROPDOWN has options; remove them"
        return
    if not field.options:
        yield "missing_options", "options", "a DROPDOWN needs at least one option"
    if len(field.options) > OPTIONS_CAP:
        yield "too_many_options", "options", f"a DROPDOWN has at most {OPTIONS_CAP} options"
    if len(set(map(comparable, field.options))) < len(field.options):
        yield "duplicate_option", "options", "two options read the same; make them differ"
    if any(not text.strip() or len(text) > 500 or UNPRINTABLE.search(text) for text in field.options):
        yield "invalid_option", "options", "an option is 1 to 500 characters without control characters"


def _limits(field: Field) -> Iterable[_Finding]:
    rules = field.validation
    low, high = (bound(field, limit) for limit in (rules.min, rules.max))
    for key, limit, read in (("min", rules.min, low), ("max", rules.max, high)):
        if limit is not None and read is None:
            wanted = "a day such as 2026-01-31" if field.field_type is FieldType.DATE else "a number"
            yield (
                "invalid_limit",
                f"validation/{key}",
                f"{key} is {wanted}, and only NUMBER and DATE have one",
            )
    if low is not None and high is not None and low > high:
        yield "invalid_limit", "validation", "min is larger than max"
    yield from _length_limits(rules)
    complaint = patterns.complaint(rules.pattern) if rules.pattern is not None else None
    if complaint:
        yield "invalid_pattern", "validation/pattern", f"the pattern cannot be used: {complaint[:200]}"


def _length_limits(rules: Validation) -> Iterable[_Finding]:
    for key, limit in (("minLength", rules.min_length), ("maxLength", rules.max_length)):
        if limit is not None and not 0 <= limit <= ANSWER_CAP:
            yield "invalid_limit", f"validation/{key}", f"{key} is a number from 0 to {ANSWER_CAP}"
    if (rules.min_length or 0) > (ANSWER_CAP if rules.max_length is None else rules.max_length):
        yield "invalid_limit", "validation", "minLength is larger than maxLength"


def bound(field: Field, limit: float | str | None) -> Any:
    """Read min or max in the field's type; None where there is none or it cannot be read."""
    if field.field_type is FieldType.DATE and isinstance(limit, str):
        return day(limit)
    if field.field_type is not FieldType.NUMBER or limit is None:
        return None
    if isinstance(limit, str):
        return Decimal(limit) if NUMBER.fullmatch(limit) else None
    return Decimal(repr(limit)) if math.isfinite(limit) else None


def day(text: str) -> date | None:
    """Read a day written as year-month-day; None if it is none."""
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def comparable(text: str) -> str:
    """Bring an option to the form in which options are compared."""
    return unicodedata.normalize("NFC", text).strip()
