"""Conditions: rules and groups of rules, decided over a scope of plain data (nodes.md, Conditions)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from workflows import moments, operators, rules
from workflows.problems import Problem

TEXT_CAP = 500
"""Characters of a value that a verdict keeps: it goes into the step, and so into history."""
ITEMS_CAP = 50
SCOPES = frozenset(
    {"trigger", "lead", "steps", "vars", "workspace", "workflow", "execution", "loop", "links"},
)


class ConditionError(ValueError):
    """The rule is malformed, so there is nothing to decide."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems[:5]))
        self.problems = problems


class Verdict(BaseModel):
    """What a rule or group came to, with everything that explains it; plain data when dumped."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["rule", "all", "any", "none"] = "rule"
    holds: bool
    field: str | None = None
    operator: str | None = None
    left: Any = None
    right: Any = None
    note: str | None = None
    items: tuple["Verdict", ...] = ()


@dataclass(frozen=True)
class _Circumstances:
    scope: Mapping[str, Any]
    now: datetime
    zone: tzinfo


def evaluate(
    rule: Mapping[str, Any], scope: Mapping[str, Any], *, now: datetime, zone: str = "UTC"
) -> Verdict:
    """Decide a rule over the scope; every rule of a group is decided, so that each explains itself."""
    parsed, found = rules.read(rule)
    if parsed is None or found:
        raise ConditionError(found)
    return _decide(parsed, _Circumstances(scope, now, moments.zone_or_utc(zone)))


def problems(rule: object) -> list[Problem]:
    """List everything that is wrong with a rule, each with its place and its remedy."""
    return rules.read(rule)[1]


def reads(rule: object) -> frozenset[str]:
    """Name every absolute path the rule may need; a bare field has three candidates."""
    parsed, _ = rules.read(rule)
    return frozenset(path for leaf in _leaves(parsed) for path in _candidates(leaf.field))


def _leaves(parsed: rules.Rule | rules.Group | None) -> Iterator[rules.Rule]:
    if isinstance(parsed, rules.Rule):
        yield parsed
    elif parsed is not None:
        for item in parsed.items:
            yield from _leaves(item)


def _candidates(field: str) -> tuple[str, ...]:
    head, dot, _ = field.partition(".")
    if dot and head in SCOPES:
        return (field,)
    return (f"trigger.{field}", f"lead.fields.{field}", f"lead.{field}")


# Deciding


def _decide(parsed: rules.Rule | rules.Group, at: _Circumstances) -> Verdict:
    if isinstance(parsed, rules.Rule):
        return _decide_rule(parsed, at)
    items = tuple(_decide(item, at) for item in parsed.items)
    held = [item.holds for item in items]
    holds = {"all": all(held), "any": any(held), "none": not any(held)}[parsed.kind]
    return Verdict(kind=parsed.kind, holds=holds, items=items)


def _decide_rule(rule: rules.Rule, at: _Circumstances) -> Verdict:
    left = _look_up(rule.field, at)
    holds, note = _answer(rule, left, at)
    return Verdict(
        holds=holds,
        field=rule.field,
        operator=rule.operator.name,
        left=_shown(left),
        right=_shown(rule.value),
        note=note,
    )


def _answer(rule: rules.Rule, left: Any, at: _Circumstances) -> operators.Answer:
    if left is None and not rule.operator.takes_missing:
        return False, "missing"
    asked = operators.Asked(left, rule.value, rule.case_sensitive, at.now, at.zone)
    return rule.operator.decide(asked)


def _look_up(field: str, at: _Circumstances) -> Any:
    for path in _candidates(field):
        value = _follow(at.scope, path.split("."))
        if value is not None:
            return value
    return at.now.isoformat() if field == "now" else None


def _follow(value: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif (
            isinstance(value, list | tuple) and part.isdecimal() and len(part) < 7 and int(part) < len(value)
        ):
            value = value[int(part)]
        else:
            return None
    return value


def _shown(value: Any, depth: int = 0) -> Any:
    """Copy a value into the verdict: cut to size, and always JSON."""
    if depth < 3 and isinstance(value, list | tuple):
        return [_shown(item, depth + 1) for item in value[:ITEMS_CAP]]
    if depth < 3 and isinstance(value, Mapping):
        return {str(key)[:100]: _shown(value[key], depth + 1) for key in list(value)[:ITEMS_CAP]}
    if isinstance(value, str):
        return value if len(value) <= TEXT_CAP else value[:TEXT_CAP] + "…"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or (isinstance(value, int) and value.bit_length() < 64):
        return value
    return "a very large number" if isinstance(value, int) else f"a {type(value).__name__}"
