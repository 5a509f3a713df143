"""HTML for mail: cleaned by an allow-list, and its plain text alternative."""

import re
from html.parser import HTMLParser

import nh3

TAGS = {
    *("a", "abbr", "b", "blockquote", "br", "caption", "center", "code", "col", "colgroup", "dd", "div"),
    *("dl", "dt", "em", "font", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "li", "ol", "p"),
    *("pre", "s", "small", "span", "strike", "strong", "sub", "sup", "table", "tbody", "td", "tfoot"),
    *("th", "thead", "tr", "u", "ul"),
}
# Layout of mail is made of tables and inline styles.
BOX = {"align", "valign", "width", "height", "bgcolor"}
ATTRIBUTES = {
    "*": {"style", "title", "dir", "lang"},
    "a": {"href", "name"},
    "img": {"src", "alt", "width", "height", "border", "align"},
    "font": {"color", "face", "size"},
    "table": {*BOX, "border", "cellpadding", "cellspacing", "role"},
    "td": {*BOX, "colspan", "rowspan"},
    "th": {*BOX, "colspan", "rowspan", "scope"},
    "tr": BOX,
    "col": {"span", "width"},
    "ol": {"start", "type"},
    "p": {"align"},
    "div": {"align"},
    "h1": {"align"},
    "h2": {"align"},
    "h3": {"align"},
}
SIDES = ("", "-top", "-right", "-bottom", "-left")
STYLES = {
    *("color", "background-color", "direction", "display", "height", "letter-spacing", "line-height"),
    *("list-style-type", "max-width", "min-width", "vertical-align", "white-space", "width", "word-break"),
    *("font", "font-family", "font-size", "font-style", "font-weight", "text-align", "text-decoration"),
    *("text-indent", "text-transform", "border-collapse", "border-color", "border-radius"),
    *("border-spacing", "border-style", "border-width"),
    *(f"{box}{side}" for box in ("margin", "padding", "border") for side in SIDES),
}
# Whole elements that must not leave even their text behind.
SILENT = {
    *("script", "style", "title", "template", "noscript", "iframe", "object", "textarea", "select"),
    *("math", "svg"),
}

# A host without user: in https://bank.example@evil.example people read the wrong name.
WEB = re.compile(r"https?://[^\s/?#@\\\"'<>]+(?:[/?#][^\s\\\"'<>]*)?", re.IGNORECASE)
MAILTO = re.compile(r"mailto:[^\s@\\\"'<>?]+@[^\s@\\\"'<>?]+(?:\?[^\s\\\"'<>]*)?", re.IGNORECASE)
IMAGE = re.compile(r"(?:https://[^\s/?#@\\\"'<>]+(?:[/?#][^\s\\\"'<>]*)?|cid:[\w.@+-]+)", re.IGNORECASE)
# Values that fetch or compute; colours as rgb() stay possible.
ACTIVE_STYLE = re.compile(r"(?:url|image|set|src|var|attr|env|expression)\s*\(|[\\@<]|/\*", re.IGNORECASE)
BLOCKS = {"p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote", "pre", "dl"}
LINES = {"br", "tr", "li", "dt", "dd", "hr", "caption"}


def clean(html: str) -> str:
    """Keep the harmless part of a body: absolute links only, images by https or cid."""
    return nh3.clean(
        html,
        tags=TAGS,
        clean_content_tags=SILENT,
        attributes=ATTRIBUTES,
        attribute_filter=_filtered,
        url_schemes={"http", "https", "mailto", "cid"},
        url_relative="deny",
        filter_style_properties=STYLES,
        link_rel=None,
    )


def is_link(url: str) -> bool:
    """Say whether a mail may link to this URL."""
    return WEB.fullmatch(url) is not None or MAILTO.fullmatch(url) is not None


def _filtered(_tag: str, attribute: str, value: str) -> str | None:
    if attribute == "href":
        return value if is_link(value) else None
    if attribute == "src":
        return value if IMAGE.fullmatch(value) else None
    if attribute == "style":
        return None if ACTIVE_STYLE.search(value) else value
    return value


def text(html: str) -> str:
    """Say the same in plain text: links with their address, lists with dashes."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    return parser.result()


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._links: list[tuple[str, int]] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in SILENT:
            self._silent += 1
        elif tag == "a":
            self._links.append((given.get("href") or "", len(self._parts)))
        elif tag == "img":
            self._parts.append(given.get("alt") or "")
        elif tag in BLOCKS:
            self._parts.append("\n\n")
        elif tag in LINES:
            self._parts.append("\n- " if tag == "li" else "\n")
        elif tag in ("td", "th"):
            self._parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == "a" and self._links:
            url, start = self._links.pop()
            shown = "".join(self._parts[start:]).strip()
            if url and url.removeprefix("mailto:") != shown:
                self._parts.append(f" ({url})" if shown else url)
        elif tag in BLOCKS:
            self._parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._parts.append(re.sub(r"\s+", " ", data))

    def result(self) -> str:
        joined = re.sub(r"[ \t\u00a0]+", " ", "".join(self._parts))
        joined = re.sub(r" ?\n ?", "\n", joined)
        return re.sub(r"\n{3,}", "\n\n", joined).strip() + "\n"
