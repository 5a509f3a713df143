"""LOGIC_CONDITION: the fork in the road."""

from typing import Any, ClassVar

from workflows import conditions
from workflows.messages import EdgeRule, Outcome
from workflows.nodetype import NodeConfig, NodeType, Refused, Result, Rule, Situation
from workflows.problems import Code, Problem, pointer

TRUE, FALSE = "condition_true", "condition_false"


class Config(NodeConfig):
    """The rule; without one, the rules on the outgoing edges decide."""

    condition: Rule | None = None


class Output(Result):
    """How it came out, and why."""

    result: bool
    evaluation: dict[str, Any]


class Condition(NodeType):
    """Chooses one of two ways."""

    name = "LOGIC_CONDITION"
    title = "Condition"
    summary = (
        "Goes on by `condition_true` if its rule holds and by `condition_false` otherwise. "
        "Without a rule of its own it asks the rules on the edges that leave by `condition_true`."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {"condition": {"field": "budget", "operator": ">=", "value": 5000}}
    failure = ("no_condition", {})
    codes: ClassVar[dict[str, Code]] = {
        "no_condition": Code(
            "Neither the condition nor an edge by `condition_true` has a rule.", "Give one of them a rule."
        )
    }
    handles = (TRUE, FALSE)
    decides = True

    @classmethod
    def flaws(cls, config: Any, edges: tuple[EdgeRule, ...]) -> list[Problem]:
        """Miss a rule: there must be one here or on an edge."""
        if config.condition is not None or any(_may_lead_on(edge) for edge in edges):
            return []
        message = "The condition has no rule, and none of its edges by `condition_true` has one."
        remedy = 'Give it one, such as {"field": "budget", "operator": ">=", "value": 5000}.'
        return [Problem(code="no_condition", message=message, remedy=remedy, pointer=pointer("condition"))]

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Weigh the rule and record how each part of it came out."""
        config: Config = situation.config
        if config.condition is not None:
            return _outcome([situation.weigh(config.condition, "condition")])
        rules = [edge.rule for edge in situation.edges if _may_lead_on(edge)]
        if not rules:
            raise Refused("no_condition", "Neither the node nor an edge by condition_true has a rule.")
        return _outcome([situation.weigh(rule, "condition") for rule in rules])


def _may_lead_on(edge: EdgeRule) -> bool:
    """Tell whether an edge's rule speaks for `condition_true`; an edge without a handle leaves by any."""
    return edge.handle in (TRUE, None)


def _outcome(verdicts: list[conditions.Verdict]) -> Outcome:
    result = any(verdict.holds for verdict in verdicts)
    # Only what was set: a rule has sides, a group has items.
    shown = [verdict.model_dump(mode="json", exclude_unset=True) for verdict in verdicts]
    evaluation = shown[0] if len(shown) == 1 else {"kind": "any", "holds": result, "items": shown}
    output = {"result": result, "evaluation": evaluation}
    return Outcome(output=output, handles=(TRUE if result else FALSE,))
