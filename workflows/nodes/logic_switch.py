"""LOGIC_SWITCH: a fork with as many ways as it has cases."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType, Result, Rule, Situation, Way, distinct

OTHERWISE = "default"


class Case(Way):
    """One way out and the rule that opens it."""

    label: str = Field("", max_length=200)
    condition: Rule

    @property
    def handle(self) -> str:
        """Name the way out."""
        return f"case_{self.id}"


class Config(NodeConfig):
    """The cases in the order in which they are asked."""

    cases: Annotated[list[Case], AfterValidator(distinct)] = Field(min_length=1, max_length=50)
    mode: Literal["first_match", "all_matches"] = "first_match"


class Weighed(Result):
    """How one case came out."""

    id: str
    label: str
    result: bool
    evaluation: dict[str, Any]


class Output(Result):
    """The ids of the cases that matched, and every case that was asked."""

    matched: list[str]
    cases: list[Weighed]


class Switch(NodeType):
    """Chooses among many ways."""

    name = "LOGIC_SWITCH"
    title = "Switch"
    summary = (
        "Asks its cases in order and goes on by `case_<id>` of the first whose rule holds, or with "
        "`mode: all_matches` by every one that does, side by side. Where none holds it goes on by `default`."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "cases": [
            {
                "id": "large",
                "label": "Large budget",
                "condition": {"field": "budget", "operator": ">=", "value": 10000},
            },
            {
                "id": "medium",
                "label": "Medium budget",
                "condition": {"field": "budget", "operator": ">=", "value": 5000},
            },
        ]
    }
    failure = (
        "bad_condition",
        {"cases": [{"id": "a", "condition": {"field": "name", "operator": "matches_regex", "value": "("}}]},
    )
    handles = (OTHERWISE,)
    named_handles = ("case_<id>",)
    decides = True

    @classmethod
    def ways_out(cls, config: Any) -> tuple[str, ...]:
        """Return `default`, which also a disabled switch takes, and one way for each case."""
        return (OTHERWISE, *(case.handle for case in config.cases))

    @classmethod
    def takes_one_way(cls, config: Any) -> bool:
        """Tell whether the first match ends the search."""
        return bool(config.mode == "first_match")

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Weigh the cases and record how each that was asked came out."""
        config: Config = situation.config
        asked, matched = [], []
        for number, case in enumerate(config.cases):
            verdict = situation.weigh(case.condition, f"cases.{number}.condition")
            evaluation = verdict.model_dump(mode="json", exclude_unset=True)
            asked.append(
                {"id": case.id, "label": case.label, "result": verdict.holds, "evaluation": evaluation}
            )
            if verdict.holds:
                matched.append(case)
            if verdict.holds and config.mode == "first_match":
                break
        output = {"matched": [case.id for case in matched], "cases": asked}
        return Outcome(output=output, handles=tuple(case.handle for case in matched) or (OTHERWISE,))
