"""LOGIC_SPLIT deals by weight, without memory, and to each lead the same."""

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from tests.workflows.nodes.conftest import NOW
from workflows.nodes.logic_split import Config, Split
from workflows.nodetype import Refused, Situation

WEIGHTS = {"a": 70, "b": 25, "c": 5}
VARIANTS = [{"id": name, "weight": weight} for name, weight in WEIGHTS.items()]


def dealt(config: Config, *, lead: str | None = None, node: str = "n", execution: str = "e") -> str:
    ids = {"workflow": "w", "node": node, "execution": execution, **({"lead": lead} if lead else {})}
    outcome: Any = Split.decide(Situation(config, {}, NOW, "UTC", ids=ids))
    assert outcome.handles == (f"variant_{outcome.output['variant']}",)
    return str(outcome.output["variant"])


def some_ids(count: int, seed: int = 1) -> list[str]:
    dice = Random(seed)
    return [str(UUID(int=dice.getrandbits(128), version=4)) for _ in range(count)]


def chi_square(counts: Counter[str], total: int, weights: Mapping[str, float]) -> float:
    whole = sum(weights.values())
    expected = {name: total * weight / whole for name, weight in weights.items()}
    return sum((counts[name] - share) ** 2 / share for name, share in expected.items())


@pytest.mark.parametrize(
    "variants", [VARIANTS, [{"id": "a", "weight": 1}, {"id": "b", "weight": 1}, {"id": "c", "weight": 1}]]
)
def test_the_shares_follow_the_weights(variants):
    config = Config.model_validate({"variants": variants})
    counts = Counter(dealt(config, lead=lead) for lead in some_ids(20_000))
    # Two degrees of freedom: a fair split is above 13.8 once in a thousand times, and the ids are fixed.
    assert chi_square(counts, 20_000, {one["id"]: one["weight"] for one in variants}) < 13.8


def test_consecutive_ids_are_dealt_as_evenly_as_random_ones():
    config = Config.model_validate({"variants": VARIANTS})
    counts = Counter(dealt(config, lead=str(UUID(int=number))) for number in range(20_000))
    assert chi_square(counts, 20_000, WEIGHTS) < 13.8


def test_two_nodes_deal_independently():
    config = Config.model_validate({"variants": [{"id": "a"}, {"id": "b"}]})
    leads = some_ids(10_000)
    pairs = Counter(dealt(config, lead=one, node="x") + dealt(config, lead=one, node="y") for one in leads)
    # Three degrees of freedom.
    assert chi_square(pairs, 10_000, dict.fromkeys(("aa", "ab", "ba", "bb"), 1)) < 16.3


def test_a_lead_keeps_its_variant_in_every_run():
    config = Config.model_validate({"variants": VARIANTS})
    for lead in some_ids(200):
        assert len({dealt(config, lead=lead, execution=run) for run in some_ids(5, seed=2)}) == 1


def test_by_execution_each_run_of_a_lead_is_dealt_anew():
    config = Config.model_validate({"variants": VARIANTS, "stickyBy": "execution"})
    runs = some_ids(200)
    assert {dealt(config, lead="one", execution=run) for run in runs} == {"a", "b", "c"}
    assert [dealt(config, lead="one", execution=run) for run in runs] == [
        dealt(config, lead="two", execution=run) for run in runs
    ]


def test_a_run_without_a_lead_is_dealt_by_itself(decide):
    config = Config.model_validate({"variants": VARIANTS})
    assert {dealt(config, execution=run) for run in some_ids(200)} == {"a", "b", "c"}
    ids = {"workflow": "w", "node": "n", "execution": "e"}
    outcome: Any = Split.decide(Situation(config, {}, NOW, "UTC", ids=ids))
    assert outcome.output["sticky_by"] == "execution"
    with pytest.raises(Refused) as refused:
        decide(Split, {"variants": VARIANTS})
    assert refused.value.type == "no_ids"


def test_more_weight_takes_leads_over_and_gives_none_back():
    before = Config.model_validate({"variants": [{"id": "a", "weight": 50}, {"id": "b", "weight": 50}]})
    after = Config.model_validate({"variants": [{"id": "a", "weight": 60}, {"id": "b", "weight": 40}]})
    moves = Counter((dealt(before, lead=one), dealt(after, lead=one)) for one in some_ids(2_000))
    assert moves["a", "b"] == 0
    assert moves["b", "a"] > 0


def test_the_choice_is_written_in_stone():
    config = Config.model_validate({"variants": VARIANTS})
    # Another formula would deal the leads of running tests anew.
    assert "".join(dealt(config, lead=lead) for lead in some_ids(12)) == "aabbaabacbaa"


@pytest.mark.parametrize(
    "variants",
    [
        [],
        [{"id": "a", "weight": 0}],
        [{"id": "a", "weight": -1}],
        [{"id": "a", "weight": float("nan")}],
        [{"id": "a", "weight": float("inf")}],
        [{"id": "a"}, {"id": "a"}],
        [{"id": "a b"}],
        [{"weight": 1}],
    ],
)
def test_a_variant_needs_a_weight_and_an_id_of_its_own(variants):
    with pytest.raises(ValidationError):
        Config.model_validate({"variants": variants})
