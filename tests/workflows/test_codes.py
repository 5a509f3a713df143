"""Whatever is wrong with a document has a code that is explained, a remedy, and a place that is there."""

import ast
import copy
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflows.documents import document, edge, node
from workflows import codes, nodes, reactflow, templates, validation
from workflows.problems import Problem, placed
from workflows.questions import Field

ROOT = Path(__file__).parent.parent.parent
SOURCES = (
    *("validation", "shape", "joins", "rounds", "callees", "references", "configs"),
    *("reactflow", "rules", "templates"),
)
TELLING = {"problem", "Problem", "Finding", "Flaw", "_note", "_problem"}
AT_RUN_TIME = {"template_missing_value", "template_not_plain", "template_filter"}
"""Only rendering can tell them."""
WRITTEN_TOGETHER = {"too_many_nodes", "too_many_edges", "duplicate_node_id", "duplicate_edge_id"}
FIELDS = [Field(field_key="email", field_type="EMAIL"), Field(field_key="seats", field_type="NUMBER")]


def told_in(path: Path) -> set[str]:
    """Collect the codes that a file tells: the first argument of whatever tells, or `code=`."""
    found: set[str] = set()
    for call in ast.walk(ast.parse(path.read_text())):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", None) or getattr(call.func, "id", None)
        given = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "code")]
        if name in TELLING:
            found |= {
                each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)
            }
    return found


def test_every_code_is_explained_and_none_that_nobody_tells():
    told = {
        code for name in SOURCES for code in told_in(ROOT / "workflows" / f"{name}.py")
    } | WRITTEN_TOGETHER
    told |= set(get_args(templates.Code)) - AT_RUN_TIME
    # What is told by a variable.
    told |= {"missing", "config_missing", "config_unknown_key", "config_invalid"}
    general = {code for section in codes.CODES.values() for code in section}
    assert told == general


@pytest.mark.parametrize("name", sorted(nodes.types()))
def test_a_node_type_explains_the_codes_of_its_own(name: str):
    node_type = nodes.types()[name]
    general = {code for section in codes.CODES.values() for code in section}
    told = told_in(ROOT / "workflows" / "nodes" / f"{nodes.module_of(node_type)}.py")
    assert told - general == set(node_type.codes)


def test_the_page_of_the_problems_is_made_from_the_codes():
    assert (ROOT / "docs" / "problems.md").read_text() == codes.page(), "Write it again: `make docs`"


# Documents that somebody broke


def everything() -> dict[str, Any]:
    """Draw a node of every type, and one that names another."""
    types = nodes.types()
    drawn = [node(name.lower(), name, **copy.deepcopy(types[name].example)) for name in types]
    drawn.append(node("says", message="{{ steps.action_send_email.message_id }} {{ trigger.seats }}"))
    return document(*drawn)


RULE = {"all": [{"field": "seats", "operator": ">=", "value": 5}, {"field": "email", "operator": "exists"}]}
JUNK: list[Any] = [
    *(None, True, -1, 1.5, "", "x", "{{", "{{ steps.says.x }}", "{{ lead.nmae }}", "start", "error", "all"),
    *(
        "{{ steps.action_send_email.x }}",
        "{{ vars.no }}",
        "{{ me.x }}",
        "{{ now | shout }}",
        "{% for %}",
        "(",
    ),
    *([], {}, ["x"], {"field": "x"}, {"all": [{}]}, {"any": 5}, {"operator": "~", "field": "seats"}, [[]]),
    *("branch", "TRIGGER_FORM", "LOGIC_MERGE", "UTILITY_END", {"type": "strin"}, "\0", "a" * 600),
]
ADDED = ("saveAs", "onError", "joinMode", "mesage", "condition", "a/b~", "inputSchema")


def broken(dice: Random) -> Any:
    """Break a document in a few places: what was there is gone, is junk, or stands somewhere else."""
    whole = everything()
    first, *others = whole["nodes"][-1:] + whole["nodes"][:-1]
    kept = [*dice.sample(others, dice.randint(0, 8)), first]
    dice.shuffle(kept)
    names = [each["id"] for each in kept]
    pairs = [*pairwise(names), *(dice.choices(names, k=2) for _ in range(3))]
    lines = [edge(f"{a}>{b}", condition=copy.deepcopy(dice.choice([RULE, None]))) for a, b in pairs if a != b]
    whole |= {"nodes": kept, "edges": [{**line, "id": str(n)} for n, line in enumerate(lines)]}
    for _ in range(dice.randint(1, 5)):
        known = list(places(whole))
        if not known:
            break
        inner = [place for each in kept for place in places(data_of(each))] if dice.random() < 0.8 else []
        (holder, key), (other, _) = dice.choice(inner or known), dice.choice(inner or known)
        # Copies, so that nothing comes to stand inside itself.
        junk = copy.deepcopy(dice.choice(JUNK))
        match dice.randrange(4):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[dice.choice(ADDED)] = junk
            case 2:
                holder[key] = copy.deepcopy(other)
            case _:
                holder[key] = junk
    return whole


def data_of(drawn: Any) -> Any:
    return drawn.get("data") if isinstance(drawn, dict) else None


def places(value: Any) -> Any:
    """List every (holder, key) of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from places(inner)


def found_in(whole: Any) -> list[Problem]:
    """Say what is wrong with a document, as the API does."""
    reading = reactflow.read(whole)
    if reading.draft is None:
        return reading.problems
    return validation.problems(reading.draft, FIELDS, publishing=True)


ABOUT_ABSENCE = {"config_missing", "config_invalid", "missing", "no_condition", "wrong_value"}


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_is_broken_is_told_with_code_message_remedy_and_a_place_that_is_there(seed: int):
    whole = broken(Random(seed))
    known = codes.every()
    for problem in found_in(whole):
        assert problem.code in known, problem
        assert problem.message, problem
        assert problem.remedy, problem
        there = placed(problem, whole)
        # The pointer leads somewhere; only of what is missing does it lead to where that is missing.
        assert there.pointer == problem.pointer or problem.code in ABOUT_ABSENCE, problem
        assert there.pointer or problem.code in ("missing", "invalid_graph", "wrong_type"), problem


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/nodes/0/data/config/message", "/nodes/0/data/config"),
        ("/nodes/0/a~1b/c~0d", "/nodes/0/a~1b/c~0d"),
        ("/nodes/1", "/nodes"),
        ("/nodes/-", "/nodes"),
        ("/nodes/" + "9" * 5000, "/nodes"),
        ("", ""),
    ],
)
def test_a_pointer_is_cut_to_what_is_there(pointer: str, expected: str):
    whole = {"nodes": [{"data": {"config": {}}, "a/b": {"c~d": 1}}]}
    assert placed(Problem(code="x", message="x", pointer=pointer), whole).pointer == expected
