"""How a template uses what it names: what it prints, come what may, and what it loops over."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from liquid import RenderContext
from liquid.ast import Node
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.expressions import Path as PathExpression
from liquid.builtin.tags.for_tag import ForNode
from liquid.builtin.tags.tablerow_tag import TablerowNode

from workflows import templates
from workflows.dialect import Print, PrintEcho


class Uses(NamedTuple):
    """Dotted paths, as `templates.reads` names them."""

    printed: frozenset[str] = frozenset()
    """Without a `default`, and not only if some condition holds: missing, they fail the step."""
    looped: frozenset[str] = frozenset()


@lru_cache(maxsize=512)
def of(source: str) -> Uses:
    """Say how a template uses its paths; one that cannot be parsed uses none."""
    try:
        template = templates.parsed(source)
        nodes = template.nodes if template else []
        context = RenderContext(template) if template else None
        looped = {path for node in nodes for path in _looped(node, context)}
    except (templates.TemplateError, RecursionError):
        return Uses()
    return Uses(frozenset(filter(None, map(_printed, nodes))), frozenset(looped))


def _printed(node: Node) -> str | None:
    expression = node.expression if isinstance(node, Print | PrintEcho) else None
    if not isinstance(expression, FilteredExpression) or not isinstance(expression.left, PathExpression):
        return None
    has_default = any(each.name == "default" for each in expression.filters or ())
    return None if has_default else templates.path_of(expression.left.path)


def _looped(node: Node, context: Any) -> Iterator[str]:
    if isinstance(node, ForNode | TablerowNode) and isinstance(node.expression.iterable, PathExpression):
        yield templates.path_of(node.expression.iterable.path)
    for child in node.children(context, include_partials=False):
        yield from _looped(child, context)
