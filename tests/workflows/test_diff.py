"""Two drawings are compared by the names of what stands in them, down to the place that differs."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workflows import diff
from workflows.diff import Change, Changed, Difference

A: dict[str, Any] = {
    "id": "a",
    "data": {"config": {"message": "hi", "to": ["x", "y"], "flag": True}},
    "z": None,
}


def test_what_came_went_and_changed_is_told_in_the_order_in_which_it_was_drawn():
    before: list[Any] = [{"id": "gone"}, A, {"id": "same", "x": 1.0}, {"id": "lost"}]
    config = {"message": "ho", "to": ["x"], "flag": 1, "a/b": 2}
    after: list[Any] = [
        {"id": "late"},
        {"id": "same", "x": 1},
        {"id": "a", "data": {"config": config}},
        {"id": "new"},
    ]
    assert diff.between(before, after) == Difference(
        added=({"id": "late"}, {"id": "new"}),
        removed=({"id": "gone"}, {"id": "lost"}),
        changed=(
            Changed(
                id="a",
                changes=(
                    Change(pointer="/data/config/a~1b", change="added", new=2),
                    Change(pointer="/data/config/flag", change="changed", old=True, new=1),
                    Change(pointer="/data/config/message", change="changed", old="hi", new="ho"),
                    Change(pointer="/data/config/to/1", change="removed", old="y"),
                    Change(pointer="/z", change="removed"),
                ),
            ),
        ),
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from("ab"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b/c"]), inner),
    max_leaves=8,
)
things = st.dictionaries(st.sampled_from("abc"), values).map(
    lambda named: [{"id": name, "value": value} for name, value in named.items()]
)


def patched(thing: Any, change: Change) -> None:
    """Carry one change out."""
    *path, last = [part.replace("~1", "/").replace("~0", "~") for part in change.pointer.split("/")[1:]]
    for part in path:
        thing = thing[int(part) if isinstance(thing, list) else part]
    key: Any = int(last) if isinstance(thing, list) else last
    if change.change == "removed":
        del thing[key]
    elif isinstance(thing, list) and change.change == "added":
        thing.insert(key, change.new)
    else:
        thing[key] = change.new


@given(things, things)
def test_a_difference_carried_out_makes_one_of_the_other(before: list[Any], after: list[Any]):
    found = diff.between(before, after)
    gone = {thing["id"] for thing in found.removed}
    made = {thing["id"]: thing for thing in before if thing["id"] not in gone}
    made |= {thing["id"]: thing for thing in found.added}
    for changed in found.changed:
        # From behind, so that what is taken out of a list leaves the earlier places alone.
        removals = [change for change in changed.changes if change.change == "removed"]
        for change in [c for c in changed.changes if c.change != "removed"] + removals[::-1]:
            patched(made[changed.id], change)
    assert made == {thing["id"]: thing for thing in after}
