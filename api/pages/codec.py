"""The page on which an operator's browser logs in, so that the Temporal Web UI may have payloads decoded."""

from api.pages.link import POLICY, STYLESHEET
from api.pages.markup import Markup, document, join, paragraphs, tag

__all__ = ["POLICY", "known", "login"]

TITLE = "Payloads in the Temporal Web UI"


def login(*, mistake: str | None = None) -> str:
    """Ask for an API key."""
    about = (
        "Temporal keeps what runs work with encrypted. Log in with an API key that may decode payloads "
        "(scope codec:decode), and the Web UI in this browser shows those of the key's workspace."
    )
    field = tag(
        "input",
        id="api_key",
        name="api_key",
        type="password",
        autocomplete="off",
        spellcheck="false",
        required=True,
        autofocus=True,
        aria_invalid="true" if mistake else None,
        aria_describedby="mistake" if mistake else None,
    )
    return _page(
        paragraphs(about, class_="intro"),
        tag(
            "form",
            tag("label", "API key", for_="api_key"),
            field,
            tag("p", mistake, class_="error", id="mistake", role="alert") if mistake else join(),
            tag("button", "Log in", type="submit"),
            method="post",
            action="/codec/login",
        ),
    )


def known(*, workspace: str, endpoint: str) -> str:
    """Say who is logged in, and what the Web UI has to be told once."""
    steps = (
        f"You are logged in for the workspace {workspace}.\n\n"
        "Once for each browser: in the Web UI open “Configure Codec Server” (the glasses, at the top right), "
        f"choose “Use my browser setting”, enter {endpoint}, switch on “Include cross-origin credentials” "
        "and apply. "
        "Where the server's own setting has these already, there is nothing to do."
    )
    out = tag("form", tag("button", "Log out", type="submit"), method="post", action="/codec/logout")
    return _page(tag("div", paragraphs(steps), role="status"), out)


def _page(*content: Markup) -> str:
    return document(title=TITLE, body=tag("main", tag("h1", TITLE), *content), stylesheet=STYLESHEET)
