"""FlowTrack's Liquid: what the language may do here, with every limit set and no way out of plain data."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any, TextIO

from liquid import BoundTemplate, Environment, FalsyStrictUndefined, RenderContext, Token, TokenStream, escape
from liquid.ast import Node
from liquid.builtin.expressions import LoopExpression
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags.echo_tag import EchoNode, EchoTag
from liquid.builtin.tags.for_tag import ForLoop, ForNode, ForTag
from liquid.builtin.tags.tablerow_tag import TableRow, TablerowNode, TablerowTag
from liquid.exceptions import LiquidSyntaxError, LocalNamespaceLimitError, LoopIterationLimitError
from liquid.undefined import UNDEFINED
from liquid.utils import ReadOnlyChainMap

from workflows import filters
from workflows.caps import ITEMS_CAP, MissingValue, NotPlain, Work, capped, stringify, weigh

SOURCE_CAP = 32_768
OUTPUT_CAP = 65_536
NAMESPACE_CAP = 200_000
LOOP_CAP = 10_000
_SPACE_CAP = 200
_BRACKET_CAP = 40
_CONTAINERS = (dict, list, tuple, str, range, ForLoop, TableRow)
_OPENING = re.compile(r"\{[{%]")
_VERBATIM = re.compile(r"-?\s*(raw|doc)\s*-?")
_LONG_SPACE = re.compile(rf"\s{{{_SPACE_CAP}}}")


class Missing(FalsyStrictUndefined):
    """A value that is not there: false in a test, empty in a loop, an error where it is printed."""

    allowed_properties = FalsyStrictUndefined.allowed_properties | {"is_null", "items", "missing"}

    def __init__(self, name: str, *, token: Token | None = None, is_null: bool = False, **_: Any) -> None:
        super().__init__(name, token=token)
        self.missing = name
        self.is_null = is_null

    def __str__(self) -> str:
        raise MissingValue(self.missing, token=self.token)

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Missing)

    __hash__ = FalsyStrictUndefined.__hash__

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __contains__(self, item: object) -> bool:
        return False

    def items(self) -> Any:
        """Have nothing to loop over."""
        return ()


class Context(RenderContext):
    """One rendering: its scope, its clock, and the work it has done."""

    def __init__(
        self, template: BoundTemplate, *, scope: Mapping[str, object], now: datetime, zone: tzinfo, work: Work
    ) -> None:
        super().__init__(template, globals=scope)
        self.now = now
        self.zone = zone
        self.work = work
        here = now.astimezone(zone)
        clock = {"now": here.isoformat(timespec="seconds"), "today": here.date().isoformat()}
        # Liquid's own chain holds a `now` that reads the machine's clock.
        self.scope = ReadOnlyChainMap(self.locals, self.globals, clock, self.counters)
        self._iterations = 0
        self._held = 0
        self._sizes: dict[str, int] = {}
        self._weighed: dict[int, tuple[object, int]] = {}

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        """Follow a path through plain data; what is not there, or is null, is missing."""
        self.work.spend(1)
        value: Any = self.scope
        for number, segment in enumerate(path):
            if isinstance(segment, Missing):
                str(segment)  # raises, and names the value
            try:
                value = value[segment] if number == 0 else self.get_item(value, segment)
            except (KeyError, TypeError, IndexError):
                return Missing(_dotted(path), token=token) if default is UNDEFINED else default
        if value is None:
            return Missing(_dotted(path), token=token, is_null=True) if default is UNDEFINED else default
        self._charge(value)
        return value

    def get_item(self, obj: Any, key: Any) -> Any:
        """Take an item of plain data; anything else is refused, whatever methods it has."""
        if isinstance(obj, Missing):
            raise KeyError(key)
        if type(obj) not in _CONTAINERS and not isinstance(obj, str | int | float):
            raise NotPlain(f"a {type(obj).__name__} is not plain data", token=None)
        return super().get_item(obj, key)

    def assign(self, key: str, val: Any) -> None:
        """Set a local variable, within what all of them may hold."""
        size = 8 if isinstance(val, dict | Missing) else weigh(val)
        self.work.spend(2 + (size >> 6))
        self._held += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        self.locals[key] = val
        if self._held > NAMESPACE_CAP:
            raise LocalNamespaceLimitError("the template's variables hold too much", token=None)

    def raise_for_loop_limit(self, length: int = 1) -> None:
        """Count iterations over the whole template: Liquid counts nested loops only."""
        self._iterations += length
        if self._iterations > LOOP_CAP:
            raise LoopIterationLimitError(f"the template loops more than {LOOP_CAP} times", token=None)

    def _charge(self, value: Any) -> None:
        """Pay for what comparing or printing the value may cost; a container is weighed once."""
        if isinstance(value, str):
            self.work.spend(len(value) >> 8)
            return
        if isinstance(value, int | float | ForLoop | TableRow | Missing):
            return
        known = self._weighed.get(id(value))
        if known is None:
            # The value is kept beside its weight, so that its id cannot pass to another.
            known = self._weighed[id(value)] = (value, weigh(value))
            self.work.spend(known[1] >> 4)
        self.work.spend(known[1] >> 6)


def _dotted(path: list[object]) -> str:
    return ".".join(str(segment) for segment in path)[:200]


class Loop(LoopExpression):
    """A loop that pays for its iterations before it runs, by the length of its body's source."""

    __slots__ = ("span",)

    def __init__(self, made: LoopExpression, span: int) -> None:
        super().__init__(
            made.token,
            made.identifier,
            made.iterable,
            limit=made.limit,
            offset=made.offset,
            reversed_=made.reversed,
            cols=made.cols,
        )
        self.span = span

    def evaluate(self, context: RenderContext) -> tuple[Iterator[object], int]:
        """Return the items and their number."""
        items, length = super().evaluate(context)
        if isinstance(context, Context):
            context.work.spend(length * (2 + self.span // 2))
        return items, length

    def _to_iter(self, obj: object, context: RenderContext) -> tuple[Iterator[Any], int]:
        # Liquid builds or skips a range's items before it looks at the limit.
        if isinstance(obj, range) and obj.stop - obj.start > ITEMS_CAP:
            raise LoopIterationLimitError(f"the range has more than {ITEMS_CAP} items", token=self.token)
        return super()._to_iter(obj, context)


def _pay(node: Node, stream: TokenStream) -> None:
    """Let a loop pay by the source between its two tags."""
    if isinstance(node, ForNode | TablerowNode):
        span = max(stream.current.start_index - node.token.start_index, 1)
        node.expression = Loop(node.expression, span)


class PaidForTag(ForTag):
    """`for`, with Loop."""

    def parse(self, stream: TokenStream) -> Node:
        """Parse the tag and its block."""
        node = super().parse(stream)
        _pay(node, stream)
        return node


class PaidTablerowTag(TablerowTag):
    """`tablerow`, with Loop."""

    def parse(self, stream: TokenStream) -> TablerowNode:
        """Parse the tag and its block."""
        node = super().parse(stream)
        _pay(node, stream)
        return node


class Print(OutputNode):
    """`{{ … }}`: nothing to print is an error that names what is missing."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        """Write the value."""
        return _print(self, context, buffer)


class PrintEcho(EchoNode):
    """`{% echo … %}`, the same."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        """Write the value."""
        return _print(self, context, buffer)


def _print(node: OutputNode, context: RenderContext, buffer: TextIO) -> int:
    value = node.expression.evaluate(context)
    if value is None:
        raise MissingValue(str(node.expression)[:200], token=node.token)
    if context.autoescape:
        items = value if isinstance(value, list | tuple) else [value]
        return buffer.write("".join(escape(stringify(item)) for item in items))
    return buffer.write(stringify(value))


class PrintTag(Output):
    """The tag behind Print."""

    node_class = Print


class PrintEchoTag(EchoTag):
    """The tag behind PrintEcho."""

    node_class = PrintEcho


class Dialect(Environment):
    """Liquid without loading, without `safe`, and with every filter capped."""

    block_nesting_limit = 30
    context_depth_limit = 30
    loop_iteration_limit = LOOP_CAP
    local_namespace_limit = NAMESPACE_CAP
    output_stream_limit = OUTPUT_CAP

    def __init__(self, *, html: bool) -> None:
        super().__init__(undefined=Missing, strict_filters=True, autoescape=html)

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        """Take Liquid's tags and filters, less what loads or leaks, plus ours."""
        super().setup_tags_and_filters(extra=extra)
        for name in ("include", "render"):
            del self.tags[name]
        for tag in (PaidForTag, PaidTablerowTag, PrintTag, PrintEchoTag):
            self.add_tag(tag)
        known = {name: found for name, found in self.filters.items() if name not in filters.LEFT_OUT}
        self.filters = {
            name: capped(name, found, takes_missing=name in filters.TAKE_MISSING)
            for name, found in {**known, **filters.OWN}.items()
        }


def scan(source: str) -> None:
    """Refuse, in one linear pass, what Liquid's own scanner would spend seconds on."""
    at = 0
    while found := _OPENING.search(source, at):
        start, is_output = found.start(), found[0] == "{{"
        end = source.find("}}" if is_output else "%}", found.end())
        if end < 0:
            raise _syntax(f"{found[0]} is never closed", source, start)
        inner, at = source[found.end() : end], end + 2
        _scan_inner(inner, source, start)
        if not is_output and (verbatim := _VERBATIM.fullmatch(inner)):
            closing = re.compile(rf"\{{%-?\s*end{verbatim[1]}\s*-?%\}}").search(source, at)
            if closing is None:
                raise _syntax(f"{{% {verbatim[1]} %}} is never closed", source, start)
            at = closing.end()


def _scan_inner(inner: str, source: str, start: int) -> None:
    if _LONG_SPACE.search(inner):
        raise _syntax(f"a tag holds {_SPACE_CAP} or more spaces in a row", source, start)
    lines = inner.split("\n") if inner.lstrip("- \t\r\n").startswith("liquid") else [inner]
    if any(line.count("(") > _BRACKET_CAP or line.count("[") > _BRACKET_CAP for line in lines):
        raise _syntax(f"a tag holds more than {_BRACKET_CAP} brackets", source, start)


def _syntax(message: str, source: str, start: int) -> LiquidSyntaxError:
    return LiquidSyntaxError(message, token=Token("illegal", source[start : start + 2], start, source))
