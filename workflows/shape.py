"""The shape of a drawing: its trigger, its edges, what leads where, and what can never be reached."""

from collections.abc import Iterator

from workflows.drawing import Drawing, Line, Placed
from workflows.problems import Problem

CYCLES_CAP = 20
NAMES_CAP = 20


def problems(drawing: Drawing) -> Iterator[Problem]:
    """Yield what is wrong with how the nodes are connected."""
    yield from _triggers(drawing)
    yield from _edges(drawing)
    yield from _cycles(drawing)
    yield from _unreachable(drawing)
    yield from _error_branches(drawing)
    yield from _names(drawing)


def _triggers(drawing: Drawing) -> Iterator[Problem]:
    triggers = drawing.triggers
    if not triggers:
        message, remedy = "The workflow has no trigger.", "Add one, such as TRIGGER_FORM, and connect it."
        yield Problem(code="no_trigger", message=message, remedy=remedy, pointer="/nodes")
    for second in triggers[1:]:
        message = f"The workflow has {len(triggers)} triggers: {_listed([t.id for t in triggers])}."
        yield second.problem("two_triggers", message, "Keep one, and make another workflow for the other.")


def _edges(drawing: Drawing) -> Iterator[Problem]:
    for number, edge in enumerate(drawing.draft.edges):
        line = Line(number, edge)
        source, target = drawing.by_id.get(edge.source), drawing.by_id.get(edge.target)
        if source is None or target is None:
            end, missing = ("source", edge.source) if source is None else ("target", edge.target)
            message = f"The edge's {end} `{missing}` is not a node of the graph."
            yield line.problem("dangling_edge", message, "Remove the edge, or connect it to a node.", end)
        elif edge.is_enabled:
            yield from _edge(line, source, target)


def _edge(line: Line, source: Placed, target: Placed) -> Iterator[Problem]:
    if not source.runs or not target.runs:
        note = target if source.runs else source
        message = f"`{note.id}` never runs, so no run follows this edge."
        yield line.problem("edge_to_note", message, "Remove the edge.", severity="warning")
        return
    if target.is_trigger:
        message = f"The edge leads into the trigger `{target.id}`; a run begins there and never returns."
        yield line.problem("edge_into_trigger", message, "Remove the edge.", "target")
    ways_out, handle = source.ways_out, line.edge.source_handle
    if ways_out == ():
        message = f"`{source.id}` ends its branch: nothing follows a {source.node.type}."
        yield line.problem("no_way_out", message, "Remove the edge.", "source")
    elif ways_out is not None and handle is not None and handle not in ways_out:
        message = f"`{source.id}` has no handle `{handle}`."
        yield line.problem("unknown_handle", message, f"Use one of {_listed(ways_out)}.", "sourceHandle")
    if line.edge.condition is not None and source.config is not None and source.config.disabled:
        message = f"`{source.id}` is disabled, so nobody weighs this edge's rule and no run follows it."
        remedy = "Enable the node, or take the rule off."
        yield line.problem("rule_of_disabled_node", message, remedy, "data", "condition", severity="warning")


def _cycles(drawing: Drawing) -> Iterator[Problem]:
    """Name the nodes of each cycle; those of loops are left out of the order already."""
    on_path = set(drawing.by_id) - set(drawing.order)
    for _ in range(CYCLES_CAP):
        _trim(drawing, on_path)
        first = next((placed.id for placed in drawing.placed if placed.id in on_path), None)
        if first is None:
            return
        cycle = _cycle_from(drawing, first, on_path)
        message = f"These nodes run in a circle: {_listed([*cycle, cycle[0]], arrow=True)}."
        remedy = "Remove one of the edges between them, or go back by a LOGIC_GOTO."
        yield drawing.by_id[cycle[0]].problem("cycle", message, remedy)
        on_path -= set(cycle)


def _trim(drawing: Drawing, on_path: set[str]) -> None:
    """Take away, again and again, what leads to nothing that is left: the rest is on or before a cycle."""
    left = {n: sum(line.edge.target in on_path for line in drawing.outgoing[n]) for n in on_path}
    ending = [node_id for node_id, count in left.items() if count == 0]
    while ending:
        node_id = ending.pop()
        on_path.discard(node_id)
        for line in drawing.incoming[node_id]:
            if line.edge.source in on_path:
                left[line.edge.source] -= 1
                if left[line.edge.source] == 0:
                    ending.append(line.edge.source)


def _cycle_from(drawing: Drawing, first: str, on_path: set[str]) -> list[str]:
    """Walk on until a node comes again; every node that is left leads to one that is."""
    seen: dict[str, int] = {}
    current = first
    while current not in seen:
        seen[current] = len(seen)
        current = next(o.edge.target for o in drawing.outgoing[current] if o.edge.target in on_path)
    return list(seen)[seen[current] :]


def _unreachable(drawing: Drawing) -> Iterator[Problem]:
    if not drawing.triggers:
        return
    for placed in drawing.placed:
        if placed.runs and placed.id not in drawing.reached:
            message = f"No path leads from the trigger to `{placed.id}`, so it never runs."
            yield placed.problem("unreachable", message, "Connect it, or remove it.", severity="warning")


def _error_branches(drawing: Drawing) -> Iterator[Problem]:
    for placed in drawing.placed:
        if placed.config is None or not placed.runs:
            continue
        by_error = [o for o in drawing.outgoing[placed.id] if o.edge.source_handle == "error"]
        if placed.config.on_error == "branch" and not by_error:
            message = f"`{placed.id}` goes on by `error` when it fails, and no edge leaves by it."
            remedy = "Connect the handle `error`, or choose another `onError`."
            path = ("data", "config", "onError")
            yield placed.problem("no_error_edge", message, remedy, *path, severity="warning")
        for line in by_error if placed.config.on_error != "branch" else ():
            message = f"No run leaves `{placed.id}` by `error`: its `onError` is `{placed.config.on_error}`."
            remedy = "Set its `onError` to `branch`."
            yield line.problem("unused_error_edge", message, remedy, "sourceHandle", severity="warning")


def _names(drawing: Drawing) -> Iterator[Problem]:
    owners: dict[str, Placed] = {}
    for placed in sorted(drawing.placed, key=lambda p: p.save_as != p.id):
        owner = owners.setdefault(placed.save_as, placed)
        if owner is not placed and placed.runs:
            message = f"`steps.{placed.save_as}` is the output of `{owner.id}` already."
            remedy = "Give the step another `saveAs`."
            yield placed.problem("duplicate_save_as", message, remedy, "data", "config", "saveAs")


def _listed(names: list[str] | tuple[str, ...], *, arrow: bool = False) -> str:
    shown = [f"`{name}`" for name in names[:NAMES_CAP]]
    if len(names) > NAMES_CAP:
        shown += ["…"]
    return (" → " if arrow else ", ").join(shown)
