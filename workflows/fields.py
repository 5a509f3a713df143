"""Checking and normalising what people answer to a form's fields."""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import email_validator
from pydantic import BaseModel, ConfigDict

from workflows import patterns
from workflows.problems import Problem, pointer
from workflows.questions import (
    ANSWER_CAP,
    FIELDS_CAP,
    NUMBER,
    UNPRINTABLE,
    Field,
    FieldType,
    Validation,
    bound,
    comparable,
    day,
    field_problems,
    form_problems,
)

__all__ = [
    "Answers",
    "Field",
    "FieldType",
    "Validation",
    "check",
    "field_problems",
    "form_problems",
    "normal_email",
]

_LINE_BREAK = re.compile(r"[\r\n\u2028\u2029]")
_CHECKED = frozenset({"true", "on", "yes", "1"})
_UNCHECKED = frozenset({"false", "off", "no", "0", ""})


class Answers(BaseModel):
    """Checked answers: as stored, as typed values, and what is wrong with them."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    values: dict[str, str]
    typed: dict[str, Any]
    problems: tuple[Problem, ...] = ()
    flags: tuple[Problem, ...] = ()
    """What was accepted but deserves a look."""


class _Refused(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def check(fields: Sequence[Field], answers: Mapping[str, Any]) -> Answers:
    """Check answers against their fields; only what is declared and right comes back as a value."""
    if len(answers) > FIELDS_CAP:
        return _refused(Problem(code="too_many_answers", message=f"A form has at most {FIELDS_CAP} answers."))
    declared = {field.field_key: field for field in fields}
    problems = [_unknown(key) for key in answers if key not in declared]
    values: dict[str, str] = {}
    typed: dict[str, Any] = {}
    for key, field in declared.items():
        try:
            answer = _answer(field, answers.get(key))
        except _Refused as refused:
            problems.append(_about(key, refused.code, str(refused)))
            continue
        if answer is not None:
            values[key], typed[key] = answer
    return Answers(values=values, typed=typed, problems=tuple(problems), flags=_flags(fields, values))


def _refused(problem: Problem) -> Answers:
    return Answers(values={}, typed={}, problems=(problem,))


def _about(key: str, code: str, message: str) -> Problem:
    return Problem(code=code, message=message, pointer=pointer(key), field=key)


def _unknown(key: object) -> Problem:
    shown = UNPRINTABLE.sub("?", str(key)[:100])
    return _about(shown, "unknown_field", f"This form has no field called “{shown}”.")


def _answer(field: Field, answer: Any) -> tuple[str, Any] | None:
    """Return an answer as stored and as typed; None where an optional one was left out."""
    if isinstance(answer, list | tuple):
        raise _Refused("repeated_field", f"“{field.name}” was answered more than once.")
    if isinstance(answer, Mapping):
        raise _Refused("wrong_type", f"“{field.name}” cannot be an object.")
    if isinstance(answer, str):
        answer = _clean(field, answer)
    if field.field_type is FieldType.CHECKBOX:
        return _checkbox(field, answer)
    if answer is None or answer == "":
        if field.is_required:
            raise _Refused("missing_field", f"Please fill in “{field.name}”.")
        return None
    return _READERS[field.field_type](field, answer)


def _clean(field: Field, answer: str) -> str:
    text = unicodedata.normalize("NFC", answer[: ANSWER_CAP + 1].replace("\r\n", "\n")).strip()
    if len(answer) > ANSWER_CAP or len(text) > ANSWER_CAP:
        raise _Refused("too_long", f"“{field.name}” is too long; please use at most {ANSWER_CAP} characters.")
    if UNPRINTABLE.search(answer):
        raise _Refused("invalid_characters", f"“{field.name}” contains characters that cannot be stored.")
    return text


def _text(field: Field, answer: Any) -> tuple[str, Any]:
    text = _as_text(field, answer)
    rules = field.validation
    if rules.min_length is not None and len(text) < rules.min_length:
        raise _Refused("too_short", f"“{field.name}” needs at least {rules.min_length} characters.")
    if rules.max_length is not None and len(text) > rules.max_length:
        raise _Refused("too_long", f"“{field.name}” may have at most {rules.max_length} characters.")
    if rules.pattern is not None and not patterns.fits(rules.pattern, text):
        hint = f" {field.help_text}" if field.help_text else ""
        raise _Refused("pattern_mismatch", f"“{field.name}” does not have the expected form.{hint}")
    return text, text


def _email(field: Field, answer: Any) -> tuple[str, Any]:
    text = _as_text(field, answer)
    try:
        address = normal_email(text)
    except ValueError as error:
        example = "please check it, for example name@company.com"
        raise _Refused(
            "invalid_email", f"“{field.name}” is not a complete e-mail address; {example}."
        ) from error
    _text(field, address)
    return address, address


def _dropdown(field: Field, answer: Any) -> tuple[str, Any]:
    wanted = comparable(_as_text(field, answer))
    for option in field.options:
        if comparable(option) == wanted:
            return option, option
    raise _Refused("invalid_option", f"Please choose one of the options of “{field.name}”.")


def _number(field: Field, answer: Any) -> tuple[str, Any]:
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise _Refused("wrong_type", f"“{field.name}” must be a number.")
    if isinstance(answer, int) and answer.bit_length() > 50:
        raise _Refused("number_too_large", f"“{field.name}” is too large; please use at most 15 digits.")
    written = answer if isinstance(answer, str) else _plain(answer)
    if not NUMBER.fullmatch(written):
        example = "please write digits only, for example 5000 or 12.5"
        raise _Refused("invalid_number", f"“{field.name}” must be a number; {example}.")
    number = Decimal(written)
    _within(field, number)
    whole = number == number.to_integral_value()
    return _written(number), int(number) if whole else float(number)


def _written(number: Decimal) -> str:
    """Write a number the one way it is stored: no exponent, no trailing zeros, no minus nought."""
    text = f"{number:f}" if number else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(number: float) -> str:
    return f"{Decimal(repr(number)):f}" if math.isfinite(number) and abs(number) < 1e15 else "not finite"


def _date(field: Field, answer: Any) -> tuple[str, Any]:
    found = day(_as_text(field, answer))
    if found is None:
        example = "please write it as year-month-day, for example 2026-01-31"
        raise _Refused("invalid_date", f"“{field.name}” must be a date that exists; {example}.")
    _within(field, found)
    return found.isoformat(), found.isoformat()


def _checkbox(field: Field, answer: Any) -> tuple[str, Any]:
    # A browser sends nothing for an empty box, so no answer is a no.
    written = "" if answer is None else answer
    written = str(written).lower() if isinstance(written, str | bool) else "neither"
    if written not in _CHECKED | _UNCHECKED:
        raise _Refused("wrong_type", f"“{field.name}” must be ticked or not ticked.")
    checked = written in _CHECKED
    if field.is_required and not checked:
        raise _Refused("missing_field", f"Please tick “{field.name}”.")
    return ("true" if checked else "false"), checked


_READERS: Mapping[FieldType, Callable[[Field, Any], tuple[str, Any]]] = {
    FieldType.TEXT: _text,
    FieldType.EMAIL: _email,
    FieldType.DROPDOWN: _dropdown,
    FieldType.NUMBER: _number,
    FieldType.DATE: _date,
}


def _as_text(field: Field, answer: Any) -> str:
    if not isinstance(answer, str):
        raise _Refused("wrong_type", f"“{field.name}” must be text.")
    if field.field_type is not FieldType.TEXT and _LINE_BREAK.search(answer):
        raise _Refused("invalid_characters", f"“{field.name}” must be on one line.")
    return answer


def _within(field: Field, answer: Any) -> None:
    low, high = bound(field, field.validation.min), bound(field, field.validation.max)
    if low is not None and answer < low:
        bar = f"{low} or later" if isinstance(low, date) else f"{_written(low)} or more"
        raise _Refused("too_small", f"“{field.name}” must be {bar}.")
    if high is not None and answer > high:
        bar = f"{high} or earlier" if isinstance(high, date) else f"{_written(high)} or less"
        raise _Refused("too_large", f"“{field.name}” must be {bar}.")


def normal_email(text: str) -> str:
    """Bring an address to the one form that leads are known by; ValueError if it is none."""
    folded = unicodedata.normalize("NFKC", text).strip().lower()
    # A local part outside ASCII needs a mail server that speaks SMTPUTF8; ours would refuse to send to it.
    checked = email_validator.validate_email(
        folded, check_deliverability=False, strict=True, allow_smtputf8=False
    )
    return checked.normalized.lower()


def _flags(fields: Sequence[Field], values: Mapping[str, str]) -> tuple[Problem, ...]:
    """Flag addresses whose domain is not plain ASCII: it may only look like a known one."""
    return tuple(
        _about(field.field_key, "lookalike_domain", f"the domain of “{field.name}” uses unusual letters")
        for field in fields
        if field.field_type is FieldType.EMAIL
        and not values.get(field.field_key, "").rpartition("@")[2].isascii()
    )
