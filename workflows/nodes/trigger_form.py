"""TRIGGER_FORM: a run that starts with a submission of the workflow's public form."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType
from workflows.shapes import Known, Shape

Origin = Annotated[
    str, StringConstraints(pattern=r"^(\*|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)$", max_length=255)
]


class Config(NodeConfig):
    """Who may submit, how long, and what they see afterwards; the public form reads it."""

    duplicate_policy: Literal["update_and_run", "update_only", "reject", "ignore"] = "update_and_run"
    success_message: str = Field("", max_length=5_000)
    redirect_url: str | None = Field(None, pattern=r"^https?://[^\s/?#]+[^\s]*$", max_length=2_000)
    closes_at: AwareDatetime | None = None
    max_submissions: int | None = Field(None, ge=1, le=1_000_000_000)
    allowed_origins: list[Origin] = Field(default_factory=list, max_length=50)


class FormTrigger(NodeType):
    """Starts with a form submission."""

    name = "TRIGGER_FORM"
    title = "Form submission"
    summary = "Starts when somebody submits the workflow's form; their answers are `trigger.<field_key>`."
    Config = Config
    example: ClassVar[dict[str, Any]] = {
        "duplicatePolicy": "update_and_run",
        "successMessage": "Thank you! We will be in touch.",
    }
    passes = True

    @classmethod
    def outputs(cls, config: Any, known: Known) -> Shape:
        """Answer what the form asks."""
        return known.form

    @classmethod
    def pass_through(cls, config: NodeConfig, trigger: dict[str, Any], inputs: dict[str, Any]) -> Outcome:
        """Hand the answers on."""
        return Outcome(output=trigger)
