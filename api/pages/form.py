"""The public form: one page that works without JavaScript, on a phone, with a screen reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.pages.markup import Markup, document, join, paragraphs, tag

STYLESHEET = "/assets/flowtrack.css"
POLICY = "default-src 'self'; script-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
TOKEN = "_token"  # noqa: S105 - the name of a form input
AUTOCOMPLETE = {
    "email": "email",
    "name": "name",
    "first_name": "given-name",
    "last_name": "family-name",
    "phone": "tel",
    "company": "organization",
    "website": "url",
}
THANKS = "Thank you! We have received your answers."
LONG_TEXT = 200


@dataclass(frozen=True, kw_only=True)
class Question:
    """A form field as the page shows it."""

    key: str
    label: str
    kind: str
    options: Sequence[str] = ()
    required: bool = False
    placeholder: str | None = None
    help_text: str | None = None
    max_length: int | None = None
    multiline: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything a form page shows."""

    title: str
    intro: str = ""
    submit: str = "Send"
    action: str
    token: str
    questions: Sequence[Question] = ()
    answers: Mapping[str, Any] = field(default_factory=dict)
    mistakes: Mapping[str, str] = field(default_factory=dict)
    """Field key to what is wrong with it; the empty key is for the form as a whole."""


def form(page: Page) -> str:
    """Render the form, with what was answered and what is wrong with it."""
    first_bad = next((q.key for q in page.questions if q.key in page.mistakes), None)
    fields = [_field(page, question, focus=question.key == first_bad) for question in page.questions]
    body = tag(
        "main",
        tag("h1", page.title),
        paragraphs(page.intro, class_="intro"),
        _summary(page),
        tag(
            "form",
            tag("input", type="hidden", name=TOKEN, value=page.token),
            *fields,
            tag("button", page.submit, type="submit"),
            method="post",
            action=page.action,
            accept_charset="utf-8",
        ),
    )
    title = f"Error: {page.title}" if page.mistakes else page.title
    return document(title=title, body=body, stylesheet=STYLESHEET)


def thanks(title: str, message: str) -> str:
    """Render the page that follows an accepted submission."""
    body = tag(
        "main",
        tag("div", "✓", class_="tick", aria_hidden="true"),
        tag("h1", "Thank you"),
        tag("div", paragraphs(message or THANKS), role="status"),
    )
    return document(title=f"Thank you – {title}", body=body, stylesheet=STYLESHEET)


def notice(title: str, message: str) -> str:
    """Render a page that only says something: closed, gone, try again."""
    body = tag("main", tag("h1", title), paragraphs(message))
    return document(title=title, body=body, stylesheet=STYLESHEET)


def _summary(page: Page) -> Markup:
    if not page.mistakes:
        return join()
    known = {question.key for question in page.questions}
    items = [
        tag("li", tag("a", message, href=f"#{_id(key)}") if key in known else message)
        for key, message in page.mistakes.items()
    ]
    heading = tag("h2", "Please check your answers", id="summary-title")
    named = "summary-title"
    return tag("div", heading, tag("ul", *items), class_="summary", role="alert", aria_labelledby=named)


def _field(page: Page, question: Question, *, focus: bool) -> Markup:
    mistake = page.mistakes.get(question.key)
    shared: dict[str, Any] = {
        "aria_invalid": "true" if mistake else None,
        "aria_describedby": _described_by(question, mistake),
        "autofocus": focus,
    }
    answer = page.answers.get(question.key)
    css = "field bad" if mistake else "field"
    after = _mistake(question, mistake)
    if question.kind == "CHECKBOX":
        return _checkbox(question, answer, shared, css, after)
    control = (
        _select(question, answer, shared) if question.kind == "DROPDOWN" else _input(question, answer, shared)
    )
    label = tag("label", *_caption(question), for_=_id(question.key))
    return tag("div", label, _help(question), control, after, class_=css)


def _input(question: Question, answer: Any, shared: dict[str, Any]) -> Markup:
    text = "" if answer is None else str(answer)
    common: dict[str, Any] = {
        "id": _id(question.key),
        "name": question.key,
        "required": question.required,
        "placeholder": question.placeholder,
        "maxlength": question.max_length,
        "autocomplete": AUTOCOMPLETE.get(question.key, "email" if question.kind == "EMAIL" else None),
        **shared,
    }
    if question.multiline or (question.kind == "TEXT" and (question.max_length or 0) > LONG_TEXT):
        return tag("textarea", text, rows=5, **common)
    kinds = {"EMAIL": "email", "DATE": "date"}
    mode = "decimal" if question.kind == "NUMBER" else None
    return tag("input", type=kinds.get(question.kind, "text"), value=text, inputmode=mode, **common)


def _select(question: Question, answer: Any, shared: dict[str, Any]) -> Markup:
    empty = tag("option", question.placeholder or "Please choose", value="")
    options = [
        tag("option", option, value=option, selected=str(answer) == option) for option in question.options
    ]
    return tag(
        "select",
        empty,
        *options,
        id=_id(question.key),
        name=question.key,
        required=question.required,
        **shared,
    )


def _checkbox(question: Question, answer: Any, shared: dict[str, Any], css: str, after: Markup) -> Markup:
    box = tag(
        "input",
        type="checkbox",
        id=_id(question.key),
        name=question.key,
        value="true",
        required=question.required,
        checked=str(answer).lower() in ("true", "on", "1", "yes"),
        **shared,
    )
    label = tag("label", *_caption(question), for_=_id(question.key))
    return tag("div", _help(question), tag("div", box, label, class_="choice"), after, class_=css)


def _caption(question: Question) -> tuple[str, ...]:
    if question.required:
        return (question.label,)
    return (question.label, " ", tag("span", "(optional)", class_="optional"))


def _help(question: Question) -> Markup:
    if not question.help_text:
        return join()
    return tag("p", question.help_text, class_="help", id=f"{_id(question.key)}-help")


def _mistake(question: Question, mistake: str | None) -> Markup:
    if not mistake:
        return join()
    return tag("p", mistake, class_="error", id=f"{_id(question.key)}-error")


def _described_by(question: Question, mistake: str | None) -> str | None:
    base = _id(question.key)
    ids = [f"{base}-help"] * bool(question.help_text) + [f"{base}-error"] * bool(mistake)
    return " ".join(ids) or None


def _id(key: str) -> str:
    return f"field-{key}"
