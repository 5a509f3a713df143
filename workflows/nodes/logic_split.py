"""LOGIC_SPLIT: leads are dealt among variants by weight, each always to the same one."""

from hashlib import sha256
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType, Refused, Result, Situation, Way, distinct


class Variant(Way):
    """One way out and its share."""

    weight: float = Field(1, gt=0, le=1_000_000, allow_inf_nan=False)

    @property
    def handle(self) -> str:
        """Name the way out."""
        return f"variant_{self.id}"


class Config(NodeConfig):
    """The variants, and who always gets the same one."""

    variants: Annotated[list[Variant], AfterValidator(distinct)] = Field(min_length=1, max_length=50)
    sticky_by: Literal["lead", "execution"] = "lead"


class Output(Result):
    """The variant that was dealt."""

    variant: str
    sticky_by: str


class Split(NodeType):
    """Deals by weight."""

    name = "LOGIC_SPLIT"
    title = "Split test"
    summary = (
        "Goes on by one `variant_<id>`, chosen by weight. With `stickyBy: lead` a lead gets the same variant "
        "in every run of the workflow, with `execution` each run is dealt anew; so is a run without a lead."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "variants": [{"id": "short", "weight": 70}, {"id": "long", "weight": 30}],
        "stickyBy": "lead",
    }
    handles = ()
    named_handles = ("variant_<id>",)
    decides = True

    @classmethod
    def ways_out(cls, config: Any) -> tuple[str, ...]:
        """Return one way for each variant; a disabled split takes the first."""
        return tuple(variant.handle for variant in config.variants)

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Choose by a hash: nothing has to be remembered, and every replica chooses alike."""
        config: Config = situation.config
        by = "lead" if config.sticky_by == "lead" and situation.ids.get("lead") else "execution"
        if by not in situation.ids:
            raise Refused("no_ids", "There is nobody to choose a variant for.")
        chosen = chosen_for(config.variants, share_of(situation.ids, by))
        return Outcome(output={"variant": chosen.id, "sticky_by": by}, handles=(chosen.handle,))


def share_of(ids: Any, by: str) -> float:
    """Place an id between 0 and 1, evenly, and independently of its place at other nodes."""
    digest = sha256(f"{ids['workflow']}\x1f{ids['node']}\x1f{ids[by]}".encode()).digest()
    # 53 bits are what a float holds exactly, so that the result is below 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def chosen_for(variants: list[Variant], share: float) -> Variant:
    """Find the variant whose part of the whole covers a share."""
    left = share * sum(variant.weight for variant in variants)
    for variant in variants:
        left -= variant.weight
        if left < 0:
            return variant
    return variants[-1]
