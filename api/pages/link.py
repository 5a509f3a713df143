"""The pages behind a mail's links: a question with one button, as mail scanners open every link."""

from api.pages.markup import document, join, paragraphs, tag

STYLESHEET = "/assets/flowtrack.css"
POLICY = "default-src 'self'; script-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def question(*, title: str, about: str, message: str, button: str) -> str:
    """Ask for the click that counts; the form leads to the very address of the page."""
    body = tag(
        "main",
        tag("h1", title),
        paragraphs(about, class_="intro"),
        paragraphs(message) if message else join(),
        tag("form", tag("button", button, type="submit"), method="post"),
    )
    return document(title=title, body=body, stylesheet=STYLESHEET)


def answer(*, title: str, message: str) -> str:
    """Say what came of it."""
    body = tag("main", tag("h1", title), tag("div", paragraphs(message), role="status"))
    return document(title=title, body=body, stylesheet=STYLESHEET)
