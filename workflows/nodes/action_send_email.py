"""ACTION_SEND_EMAIL: one mail, under a guarantee that its author chooses."""

from datetime import timedelta
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from workflows.nodetype import HtmlTemplate, MaybeTemplate, NodeConfig, NodeType, Result, Template

Guarantee = Literal["at_most_once", "at_least_once"]


class Config(NodeConfig):
    """To whom, what, and what to do when nobody can tell whether the mail went out."""

    to: MaybeTemplate | None = None
    cc: Template | list[Template] | None = None
    bcc: Template | list[Template] | None = None
    reply_to: Template | None = None
    email_subject: Template
    email_body: HtmlTemplate | None = None
    email_text: Template | None = None
    provider: Literal["auto", "SMTP", "GOOGLE_EMAIL", "OUTLOOK_EMAIL"] = "auto"
    message_class: Literal["marketing", "transactional"] = "marketing"
    delivery_guarantee: Guarantee | None = None
    track_opens: bool = False
    track_clicks: bool = False

    @field_validator("provider")
    @classmethod
    def _check_provider(cls, value: str) -> str:
        if value in ("GOOGLE_EMAIL", "OUTLOOK_EMAIL"):
            raise PydanticCustomError(
                "provider_not_connected", "No such mailbox is connected: choose `auto` or `SMTP`."
            )
        return value

    @field_validator("track_opens", "track_clicks")
    @classmethod
    def _check_tracking(cls, value: bool) -> bool:
        # Accepted and ignored, it would silently count nothing.
        if value:
            raise PydanticCustomError("tracking_unavailable", "Tracking is not available yet: leave it off.")
        return value

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        if self.email_body is None and self.email_text is None:
            raise PydanticCustomError("no_content", "A mail needs an emailBody (HTML) or an emailText.")
        return self

    @property
    def guarantee(self) -> Guarantee:
        """Say what an ambiguous failure leads to: in marketing rather one mail too few than one too many."""
        by_class: Guarantee = "at_most_once" if self.message_class == "marketing" else "at_least_once"
        return self.delivery_guarantee or by_class


class Output(Result):
    """What became of the mail."""

    status: Literal["sent", "skipped"]
    reason: str = ""
    message_id: str = ""
    to: list[str] = Field(default_factory=list)
    refused: dict[str, str] = Field(default_factory=dict)
    subject: str = ""


class SendEmail(NodeType):
    """Sends a mail."""

    name = "ACTION_SEND_EMAIL"
    title = "Send an e-mail"
    summary = (
        "Sends an e-mail, to the lead unless `to` says otherwise. Goes on by `skipped` if there is no "
        "address, the lead was erased, or it is marketing and the lead has unsubscribed."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "emailSubject": "Thank you, {{ lead.name }}",
        "emailBody": "<p>Hi {{ lead.name }}, we will be in touch soon.</p>",
        "messageClass": "transactional",
    }
    failure = ("refused_message", {"to": "nobody", "emailSubject": "Hello", "emailText": "Hello"})
    handles = ("default", "skipped")
    sends = True
    queue = "mail"
    fast_path = True
    # To cut off a mail that the server is taking makes its outcome unknown: only connecting is hurried.
    timeout = fast_timeout = timedelta(seconds=60)
