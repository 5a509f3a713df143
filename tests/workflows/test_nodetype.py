"""Templates and rules are found wherever a config's models hold them, and replaced where they stand."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from workflows.nodetype import Data, HtmlTemplate, NodeConfig, Part, Rule, Template, marked_values, replaced


class Case(Part):
    condition: Rule
    label_text: Template = "{{ vars.x }}"
    id: str = "a"


class Basic(Part):
    kind: Literal["basic"] = "basic"
    value: Template


class Rich(Part):
    kind: Literal["rich"]
    value: HtmlTemplate


class Deep(Part):
    cases: list[Case]


class Config(NodeConfig):
    """Every shape a config nests in."""

    one: Case | None = None
    cases: list[Case] = Field(default_factory=list)
    named: dict[str, Case] = Field(default_factory=dict)
    deep: Deep | None = None
    either: Annotated[Basic | Rich, Field(discriminator="kind")] | None = None
    texts: list[Template] = Field(default_factory=list)
    data: Data = None


RULE = {"field": "budget", "operator": ">=", "value": 1}
CASE = {"condition": RULE, "labelText": "hi"}


@pytest.mark.parametrize(
    ("config", "places"),
    [
        ({"one": CASE}, [("one", "condition"), ("one", "labelText")]),
        ({"cases": [CASE]}, [("cases", 0, "condition"), ("cases", 0, "labelText")]),
        ({"named": {"x": CASE}}, [("named", "x", "condition"), ("named", "x", "labelText")]),
        (
            {"deep": {"cases": [CASE]}},
            [("deep", "cases", 0, "condition"), ("deep", "cases", 0, "labelText")],
        ),
        ({"either": {"value": "x"}}, [("either", "value")]),
        ({"one": None, "cases": [], "either": None}, []),
        ({"one": 5, "cases": {"no": "list"}, "named": [1], "deep": {"cases": [7]}, "either": "x"}, []),
    ],
)
def test_nested_objects_are_looked_into(config: dict[str, Any], places: list[tuple[str | int, ...]]):
    found = [path for path, _, _ in marked_values(Config, config)]
    assert [path for path in found if path != ("texts",)] == places


def test_a_list_of_templates_is_one_value():
    [(path, marker, value)] = marked_values(Config, {"texts": ["a", "b"]})
    assert (path, marker.kind, value) == (("texts",), "text", ["a", "b"])


def test_a_nested_default_counts_where_its_object_is_written():
    found = {path: value for path, _, value in marked_values(Config, {"cases": [{"condition": RULE}]})}
    assert found["cases", 0, "labelText"] == "{{ vars.x }}"


@pytest.mark.parametrize(("kind", "marker"), [("basic", "text"), ("rich", "html")])
def test_of_several_models_the_one_that_is_meant_says_how(kind: str, marker: str):
    config = {"either": {"kind": kind, "value": "x"}}
    assert {m.kind for path, m, _ in marked_values(Config, config) if path == ("either", "value")} == {marker}


def test_a_value_is_replaced_where_it_stands_and_nowhere_else():
    written = {"cases": [CASE, {"condition": RULE}], "saveAs": "x"}
    changed = replaced(written, ("cases", 1, "labelText"), "rendered")
    assert changed == {"cases": [CASE, {"condition": RULE, "labelText": "rendered"}], "saveAs": "x"}
    assert written["cases"][1] == {"condition": RULE}
