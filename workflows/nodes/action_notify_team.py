"""ACTION_NOTIFY_TEAM: tells the people of the workspace."""

from datetime import timedelta
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from workflows.nodes.action_send_email import Output
from workflows.nodetype import NodeConfig, NodeType, Template


class Config(NodeConfig):
    """Whom to tell, and what."""

    recipients: Literal["owner", "role", "emails"] = "owner"
    role: Literal["owner", "admin", "member", "viewer"] | None = None
    emails: list[Template] = Field(default_factory=list, max_length=50)
    subject: Template = Field(min_length=1)
    body: Template = Field(min_length=1)

    @model_validator(mode="after")
    def _check_recipients(self) -> Self:
        if self.recipients == "role" and self.role is None:
            raise PydanticCustomError("missing_role", "`recipients: role` needs a `role`.")
        if self.recipients == "emails" and not self.emails:
            raise PydanticCustomError("missing_emails", "`recipients: emails` needs `emails`.")
        return self


class NotifyTeam(NodeType):
    """Tells the team."""

    name = "ACTION_NOTIFY_TEAM"
    title = "Notify the team"
    summary = (
        "Sends a plain-text e-mail to the workspace's `owner`, to all members of a `role` who have joined, "
        "or to `emails`: one mail that all of them see each other on. If there is nobody it sends nothing, "
        "says so in its output and goes on. If nobody can tell whether the mail went out, it is sent again."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "recipients": "owner",
        "subject": "New lead: {{ lead.name }}",
        "body": "{{ lead.name }} ({{ lead.email }}) has a budget of {{ trigger.budget }}.",
    }
    failure = ("refused_message", {"recipients": "emails", "emails": ["nobody"], "subject": "x", "body": "y"})
    sends = True
    queue = "mail"
    fast_path = True
    # As for any mail: to cut it off while the server is taking it makes its outcome unknown.
    timeout = fast_timeout = timedelta(seconds=60)
