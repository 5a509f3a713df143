"""Templates: Liquid over plain data, strict in what it prints, bounded in what it costs (nodes.md)."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from liquid import BoundTemplate
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.expressions import Path as PathExpression
from liquid.exceptions import (
    FilterArgumentError,
    LiquidError,
    LiquidSyntaxError,
    ResourceLimitError,
    UnknownFilterError,
)
from liquid.output import LimitedStringIO
from liquid.static_analysis import TemplateAnalysis

from workflows import moments
from workflows.caps import DEPTH_CAP, MissingValue, NotPlain, Work, weigh
from workflows.conditions import SCOPES
from workflows.dialect import OUTPUT_CAP, SOURCE_CAP, Context, Dialect, Print, scan
from workflows.problems import Problem

VALUES_CAP = 1_048_576
"""Weight of everything one config may render to."""
_MARKS = ("{{", "{%")
_CLOCK = frozenset({"now", "today"})
_SIZES = frozenset({"size", "first", "last"})
_ENVIRONMENTS = {html: Dialect(html=html) for html in (False, True)}

Code = Literal[
    "template_too_large",
    "template_syntax",
    "template_unknown_filter",
    "template_missing_value",
    "template_not_plain",
    "template_filter",
    "template_limit",
    "template_failed",
]


class TemplateError(ValueError):
    """The template cannot be parsed or rendered."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        missing: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.line = line
        self.column = column
        self.missing = missing


def render(
    source: str, scope: Mapping[str, Any], *, html: bool = False, now: datetime, zone: str | None = None
) -> str:
    """Render a template to text; values are escaped where it makes HTML."""
    return _Rendering(scope, html=html, now=now, zone=zone).text(source)


def render_value(
    value: Any, scope: Mapping[str, Any], *, html: bool = False, now: datetime, zone: str | None = None
) -> Any:
    """Render every string in plain data; a lone `{{ path }}` gives the value itself, with its type."""
    return _Rendering(scope, html=html, now=now, zone=zone).value(value, 0)


def reads(value: Any) -> frozenset[str]:
    """Name every dotted path that templates in the value may read; what cannot be parsed reads nothing."""
    return frozenset(path for source in _sources(value) for path in _reads(source))


def parsed(source: str) -> BoundTemplate | None:
    """Parse a template; None for plain text. Raises TemplateError."""
    return _parsed(source, html=False) if _is_template(source) else None


def filters() -> frozenset[str]:
    """Name every filter a template may use."""
    return frozenset(_ENVIRONMENTS[False].filters)


def problems(source: str) -> list[Problem]:
    """List what is wrong with a template: syntax, unknown filters, variables outside every scope."""
    try:
        template = parsed(source)
        analysis = template.analyze(include_partials=False) if template else None
    except TemplateError as error:
        return [_problem(error.code, error.message, line=error.line, column=error.column)]
    except Exception as error:
        return [_problem("template_failed", f"the template cannot be analysed: {type(error).__name__}")]
    return [*_unknown_filters(analysis, source), *_unknown_roots(analysis, source)] if analysis else []


class _Rendering:
    """Rendering one value or text: all its templates share one scope, one clock and one budget."""

    def __init__(self, scope: Mapping[str, Any], *, html: bool, now: datetime, zone: str | None) -> None:
        self._scope = scope
        self._html = html
        self._now = now
        self._zone = moments.zone_or_utc(zone)
        self._work = Work()
        self._weight = 0

    def text(self, source: str) -> str:
        if not _is_template(source):
            return source
        template = _parsed(source, html=self._html)
        buffer = LimitedStringIO(limit=OUTPUT_CAP)
        try:
            template.render_with_context(self._context(template), buffer)
        except Exception as error:
            # Filters raise whatever they like: ValueError, OverflowError, decimal.InvalidOperation.
            raise _translated(error) from error
        return buffer.getvalue()

    def value(self, value: Any, depth: int) -> Any:
        if depth > DEPTH_CAP:
            raise TemplateError("template_limit", f"the config nests deeper than {DEPTH_CAP} levels")
        if isinstance(value, str):
            return self._counted(self._lone(value))
        if isinstance(value, Mapping):
            return {key: self.value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item, depth + 1) for item in value]
        return value

    def _lone(self, source: str) -> Any:
        if not _is_template(source):
            return source
        template = _parsed(source, html=self._html)
        path = _lone_path(template)
        found = self._found(path, template) if path else None
        # Text that goes into HTML is escaped like any other.
        return self.text(source) if path is None or (self._html and isinstance(found, str)) else found

    def _found(self, path: PathExpression, template: BoundTemplate) -> Any:
        try:
            found = path.evaluate(self._context(template))
            weigh(found)
            # Asking what is missing for its text raises the error that names it.
            return found if isinstance(found, str | int | float | list | dict | tuple) else str(found)
        except Exception as error:
            raise _translated(error) from error

    def _counted(self, made: Any) -> Any:
        self._weight += weigh(made)
        if self._weight > VALUES_CAP:
            raise TemplateError("template_limit", f"the config renders to more than {VALUES_CAP} characters")
        return made

    def _context(self, template: BoundTemplate) -> Context:
        return Context(template, scope=self._scope, now=self._now, zone=self._zone, work=self._work)


def _is_template(source: str) -> bool:
    if len(source) > SOURCE_CAP:
        raise TemplateError("template_too_large", f"the template is longer than {SOURCE_CAP} characters")
    return any(mark in source for mark in _MARKS)


@lru_cache(maxsize=512)
def _parsed(source: str, *, html: bool) -> BoundTemplate:
    try:
        scan(source)
        return _ENVIRONMENTS[html].from_string(source)
    except Exception as error:
        # Liquid wraps even a RecursionError in a LiquidError without a place.
        raise _translated(error, code="template_syntax") from error


def _lone_path(template: BoundTemplate) -> PathExpression | None:
    node = template.nodes[0] if len(template.nodes) == 1 else None
    expression = node.expression if isinstance(node, Print) else None
    if not isinstance(expression, FilteredExpression) or expression.filters:
        return None
    return expression.left if isinstance(expression.left, PathExpression) else None


# Errors


def _translated(error: Exception, code: Code = "template_failed") -> TemplateError:
    if isinstance(error, TemplateError):
        return error
    if isinstance(error.__cause__, RecursionError):
        return TemplateError("template_limit", "an expression of the template nests too deep")
    token = error.token if isinstance(error, LiquidError) else None
    line, column = _place(token.source, token.start_index) if token else (None, None)
    if isinstance(error, MissingValue):
        fallback = f"{{{{ {error.missing} | default: '' }}}}"
        hint = f"{error.missing} has no value; set it, or give a fallback: {fallback}"
        return TemplateError("template_missing_value", hint, line=line, column=column, missing=error.missing)
    return TemplateError(_code(error, code), _message(error), line=line, column=column)


def _code(error: Exception, otherwise: Code) -> Code:
    known: tuple[tuple[type[Exception], Code], ...] = (
        (ResourceLimitError, "template_limit"),
        (RecursionError, "template_limit"),
        (NotPlain, "template_not_plain"),
        (UnknownFilterError, "template_unknown_filter"),
        (LiquidSyntaxError, "template_syntax"),
        (FilterArgumentError, "template_filter"),
    )
    return next((code for kind, code in known if isinstance(error, kind)), otherwise)


def _message(error: Exception) -> str:
    said = error.message if isinstance(error, LiquidError) else f"{type(error).__name__}: {error}"
    if found := re.fullmatch(r"expected an identifier, found (\w+)", str(said)):
        return f"{found[1]} is a word of the language; write ['{found[1]}'] to use it as a key"
    return str(said)[:300] or type(error).__name__


def _place(source: str, index: int) -> tuple[int | None, int | None]:
    """Return line and column, both from 1."""
    if not 0 <= index <= len(source):
        return None, None
    return source.count("\n", 0, index) + 1, index - source.rfind("\n", 0, index)


# Reading


def _sources(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth <= DEPTH_CAP and isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _sources(item, depth + 1)


@lru_cache(maxsize=512)
def _reads(source: str) -> frozenset[str]:
    try:
        if not _is_template(source):
            return frozenset()
        analysis = _parsed(source, html=False).analyze(include_partials=False)
    except Exception:
        return frozenset()
    # A name assigned in one branch may be the scope's in another, so scopes count wherever they stand.
    roots = set(analysis.globals) | (set(analysis.variables) & SCOPES)
    return frozenset(
        path_of(variable.segments) for root in roots - _CLOCK for variable in analysis.variables.get(root, ())
    )


def path_of(segments: list[Any]) -> str:
    """Return the part of a path that is known before rendering."""
    parts: list[str] = []
    for segment in segments:
        text = str(segment) if isinstance(segment, str | int) else ""
        if not text or "." in text or (parts and text in _SIZES):
            break
        parts.append(text)
    return ".".join(parts) or "."


def _unknown_filters(analysis: TemplateAnalysis, source: str) -> Iterator[Problem]:
    for name, spans in analysis.filters.items():
        if name not in filters():
            line, column = _place(source, spans[0].index)
            yield _problem(
                "template_unknown_filter", f"there is no filter {name!r}", line=line, column=column
            )


def _unknown_roots(analysis: TemplateAnalysis, source: str) -> Iterator[Problem]:
    for root, variables in analysis.globals.items():
        if root not in SCOPES | _CLOCK:
            line, column = _place(source, variables[0].span.index)
            message = (
                f"{root[:60]!r} is no variable; paths begin with {', '.join(sorted(SCOPES))}, now or today"
            )
            yield _problem("template_unknown_variable", message, line=line, column=column)


def _problem(code: str, message: str, *, line: int | None = None, column: int | None = None) -> Problem:
    return Problem(code=code, message=message, line=line, column=column)
