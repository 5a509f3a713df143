"""What differs between two lists of things with a name of their own: nodes, edges, form fields."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from workflows.graph import Frozen
from workflows.problems import pointer
from workflows.storable import Path

Kind = Literal["added", "removed", "changed"]
Thing = Mapping[str, Any]


class Change(Frozen):
    """One place of a thing that differs; what was not there before, or is no more, is null."""

    pointer: str
    change: Kind
    old: Any = None
    new: Any = None


class Changed(Frozen):
    """A thing that stands on both sides and differs."""

    id: str
    changes: tuple[Change, ...]


class Difference(Frozen):
    """How the second list differs from the first, in the order in which each was drawn."""

    added: tuple[dict[str, Any], ...] = ()
    removed: tuple[dict[str, Any], ...] = ()
    changed: tuple[Changed, ...] = ()


def between(before: Sequence[Thing], after: Sequence[Thing], *, key: str = "id") -> Difference:
    """Compare things by their names."""
    old, new = ({str(thing[key]): dict(thing) for thing in things} for things in (before, after))
    both = ((name, tuple(_changes(old[name], new[name], ()))) for name in new if name in old)
    return Difference(
        added=tuple(thing for name, thing in new.items() if name not in old),
        removed=tuple(thing for name, thing in old.items() if name not in new),
        changed=tuple(Changed(id=name, changes=changes) for name, changes in both if changes),
    )


def _changes(old: Any, new: Any, path: Path) -> Iterator[Change]:
    """Go down only where both sides have the same kind of thing; drafts are not nested deeply."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _of_parts(old, new, path, sorted({*old, *new}))
    elif isinstance(old, list) and isinstance(new, list):
        longest = range(max(len(old), len(new)))
        yield from _of_parts(dict(enumerate(old)), dict(enumerate(new)), path, longest)
    elif not _same(old, new):
        yield Change(pointer=pointer(*path), change="changed", old=old, new=new)


def _of_parts(
    old: Mapping[Any, Any], new: Mapping[Any, Any], path: Path, parts: Sequence[Any]
) -> Iterator[Change]:
    for part in parts:
        here = (*path, part)
        if part not in old:
            yield Change(pointer=pointer(*here), change="added", new=new[part])
        elif part not in new:
            yield Change(pointer=pointer(*here), change="removed", old=old[part])
        else:
            yield from _changes(old[part], new[part], here)


def _same(old: Any, new: Any) -> bool:
    """Compare as JSON does: true is not 1, and 1.0 is 1, as PostgreSQL keeps them."""
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)
