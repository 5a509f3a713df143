"""Building HTML in which every text and attribute is escaped by construction."""

import html
from typing import Final

VOID: Final = frozenset({"input", "meta", "link", "br"})

Attribute = str | int | bool | None


class Markup(str):
    """Text that is HTML already; only this module makes it."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: Attribute) -> Markup:
    """Make an element; `class_` and `aria_invalid` become `class` and `aria-invalid`, None leaves one out."""
    opening = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{opening}>")
    return Markup(f"<{name}{opening}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Put pieces side by side, escaping what is plain text."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(child) for child in children))


def paragraphs(text: str, **attributes: Attribute) -> Markup:
    """Show plain text of several lines: an empty line begins a paragraph."""
    blocks = [block.strip() for block in text.replace("\r\n", "\n").split("\n\n") if block.strip()]
    return join(*(tag("p", *_lines(block), **attributes) for block in blocks))


def document(*, title: str, body: Markup, stylesheet: str) -> str:
    """Make a whole page."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="robots", content="noindex"),
        tag("title", title),
        tag("link", rel="stylesheet", href=stylesheet),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"


def _lines(block: str) -> list[str]:
    first, *rest = block.split("\n")
    pieces: list[str] = [first]
    for line in rest:
        pieces += [tag("br"), line]
    return pieces


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
