"""Reading a condition as written: a rule or a group of rules, and everything that is wrong with it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workflows import operands, operators, patterns
from workflows.operators import Operator
from workflows.problems import Problem, pointer

DEPTH_CAP = 20
RULES_CAP = 500
GROUPS = ("all", "any", "none")
_KEYS = frozenset({"field", "operator", "value", "caseSensitive"})
_NOTES = frozenset({"id", "label"})
"""Keys that editors keep beside a rule; they decide nothing."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Rule:
    """One comparison of a field with a value."""

    field: str
    operator: Operator
    value: Any
    case_sensitive: bool


@dataclass(frozen=True)
class Group:
    """Rules and groups that count together."""

    kind: Literal["all", "any", "none"]
    items: tuple["Rule | Group", ...]


def read(rule: object) -> tuple[Rule | Group | None, list[Problem]]:
    """Read a rule; with problems, what could be read is still returned."""
    reader = _Reader()
    return reader.read(rule, (), 0), reader.found


def _is_path(field: str) -> bool:
    return len(field) <= 200 and all(part.strip() for part in field.split("."))


class _Reader:
    """Turns a rule as written into one that can be decided, and notes every problem on the way."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self._count = 0

    def read(self, rule: object, path: Path, depth: int) -> Rule | Group | None:
        if not isinstance(rule, Mapping):
            self._note("invalid_rule", path, 'a rule is an object: {"field", "operator", "value"}')
            return None
        if depth >= DEPTH_CAP:
            self._note("rule_too_deep", path, f"groups nest at most {DEPTH_CAP} deep")
            return None
        kinds = [kind for kind in GROUPS if kind in rule]
        return self._group(rule, kinds, path, depth) if kinds else self._read_rule(rule, path)

    def _group(self, rule: Mapping[str, Any], kinds: list[str], path: Path, depth: int) -> Group | None:
        if set(rule) - {kinds[0], *_NOTES}:
            others = ", ".join(sorted(str(key)[:40] for key in rule if key not in {kinds[0], *_NOTES})[:5])
            self._note(
                "invalid_group", path, f'a group has one key, here "{kinds[0]}"; remove or nest {others}'
            )
            return None
        items = rule[kinds[0]]
        here = (*path, kinds[0])
        if not isinstance(items, list | tuple):
            self._note("invalid_group", here, f'"{kinds[0]}" takes a list of rules')
            return None
        if not items:
            self._note("empty_group", here, f'"{kinds[0]}" is empty; add a rule or remove the group')
            return None
        read = []
        for number, item in enumerate(items):
            if self._count > RULES_CAP:
                break
            read.append(self.read(item, (*here, number), depth + 1))
        return Group(kinds[0], tuple(item for item in read if item))  # type: ignore[arg-type]  # one of GROUPS

    def _read_rule(self, rule: Mapping[str, Any], path: Path) -> Rule | None:
        self._count += 1
        if self._count > RULES_CAP:
            self._note("too_many_rules", path, f"a condition has at most {RULES_CAP} rules")
            return None
        unknown = sorted(str(key)[:40] for key in rule if key not in _KEYS | _NOTES)
        if unknown:
            self._note(
                "unknown_key", path, f"unknown key {unknown[0]!r}; a rule has {', '.join(sorted(_KEYS))}"
            )
        operator = self._operator(rule.get("operator"), path)
        field = self._field(rule.get("field"), operator, path)
        case_sensitive = rule.get("caseSensitive", False)
        if not isinstance(case_sensitive, bool):
            self._note("wrong_value", (*path, "caseSensitive"), "caseSensitive is true or false")
        if operator is None or field is None:
            return None
        self._check_value(operator, rule.get("value"), path)
        return Rule(field, operator, rule.get("value"), case_sensitive is True)

    def _operator(self, name: object, path: Path) -> Operator | None:
        if name is None:
            self._note("missing_operator", path, 'the rule has no operator; add one, such as "equals"')
            return None
        operator = operators.named(name)
        if operator is None:
            close = difflib.get_close_matches(str(name)[:40], operators.names(), n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"use one of {', '.join(operators.every())}"
            self._note(
                "unknown_operator", (*path, "operator"), f"unknown operator {str(name)[:40]!r}: {hint}"
            )
        return operator

    def _field(self, field: object, operator: Operator | None, path: Path) -> str | None:
        if field in (None, "") and operator and operator.default_field:
            return operator.default_field
        if field in (None, ""):
            self._note("missing_field", path, 'the rule has no field; name one, such as "lead.email"')
            return None
        if not isinstance(field, str) or not _is_path(field):
            here = (*path, "field")
            self._note("invalid_field", here, 'a field is a dotted path such as "trigger.budget"')
            return None
        return field

    def _check_value(self, operator: Operator, value: Any, path: Path) -> None:
        if operator.value.accepts(value):
            return
        here = (*path, "value")
        is_pattern = operator.name == "matches_regex" and isinstance(value, str)
        complaint = patterns.complaint(value) if is_pattern else None
        if complaint:
            self._note("invalid_pattern", here, f"the pattern cannot be used: {complaint[:200]}")
            return
        wanted = operator.value.wanted
        self._note("wrong_value", here, f"{operator.name} needs {wanted}, not {operands.described(value)}")

    def _note(self, code: str, path: Path, message: str) -> None:
        self.found.append(Problem(code=code, message=message, pointer=pointer(*path)))
