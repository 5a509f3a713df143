"""What is wrong with the loops of a drawing: jumps to nowhere, ways in past the entry, loops that cross."""

from collections.abc import Iterator

from workflows.drawing import Drawing, Line, Placed
from workflows.loops import EACH, JUMP, Region
from workflows.problems import Problem

VISITS_CAP = 2_000_000_000
"""A visit's number is a PostgreSQL integer."""
TARGET = ("data", "config", "targetNodeId")


def problems(drawing: Drawing) -> Iterator[Problem]:
    """Yield what is wrong with how loops are drawn."""
    for placed in drawing.placed:
        loop = drawing.loops.made.get(placed.id)
        if loop is not None and loop.kind == "jump":
            yield from _of_jump(drawing, placed, loop.target)
        elif loop is not None and not any(o.edge.source_handle == EACH for o in drawing.outgoing[placed.id]):
            message = f"No edge leaves `{placed.id}` by `{EACH}`, so nothing is done for its items."
            yield placed.problem("empty_loop", message, f"Connect the handle `{EACH}`.", severity="warning")
    for line in drawing.lines:
        yield from _of_edge(drawing, line)
    yield from _of_regions(drawing)


def _of_jump(drawing: Drawing, placed: Placed, target: str) -> Iterator[Problem]:
    aim = drawing.by_id.get(target)
    if aim is None or not aim.runs:
        yield placed.problem(
            "unknown_target", f"`{target}` is not a node of the graph that runs.", "Name one.", *TARGET
        )
    elif aim.is_trigger or target == placed.id:
        remedy = "Name a node between the trigger and this one."
        yield placed.problem("bad_target", f"`{placed.id}` cannot go to `{target}`.", remedy, *TARGET)
    elif placed.id not in drawing.loops.regions:
        message = f"No path leads from `{target}` to `{placed.id}`, so there is nothing to go back over."
        yield placed.problem("target_not_upstream", message, "Name a node that leads here.", *TARGET)
    elif drawing.loops.crossing() is None and _crosses_border(drawing, placed.id, target):
        message = f"The way from `{placed.id}` to `{target}` crosses the border of another loop."
        remedy = "Name a node of the same loop, or of the same item."
        yield placed.problem("jump_over_border", message, remedy, *TARGET)


def _crosses_border(drawing: Drawing, node_id: str, target: str) -> bool:
    """Tell whether a jump and its target stand in different loops, their own apart."""
    loops = drawing.loops
    region = loops.regions[node_id]
    if loops.home(node_id) != node_id:
        return True
    around = [each.id for each in loops.around(target)]
    entered = [each.id for each in loops.entered(target)]
    return region.id not in entered or around[around.index(region.id) + 1 :] != _outer(drawing, region)


def _outer(drawing: Drawing, region: Region) -> list[str]:
    return [each.id for each in drawing.loops.around(region.id)][1:]


def _of_edge(drawing: Drawing, line: Line) -> Iterator[Problem]:
    edge, loop = line.edge, drawing.loops.made.get(line.edge.source)
    if loop is not None and edge.source_handle is None:
        ways = f"`{EACH}` or `done`" if loop.kind == "each" else "`exhausted`"
        message = f"The edge does not say by which handle it leaves `{edge.source}`."
        yield line.problem("handle_needed", message, f"Let it leave by {ways}.")
    if loop is not None and loop.kind == "jump" and edge.source_handle == JUMP and edge.target != loop.target:
        message = f"`{edge.source}` goes to `{loop.target}`, and this edge draws another way."
        yield line.problem(
            "wrong_way_back", message, f"Connect it to `{loop.target}`, or remove it.", "target"
        )
    enters = loop is not None and loop.kind == "each" and edge.source_handle == EACH
    if edge.condition is not None and (enters or edge.id in drawing.loops.returning):
        message = "Nobody weighs a rule on an edge into or back to a loop."
        remedy = "Put a LOGIC_CONDITION into the loop."
        yield line.problem("rule_on_loop_edge", message, remedy, "data", "condition")


def _of_regions(drawing: Drawing) -> Iterator[Problem]:
    loops = drawing.loops
    for region in loops.regions.values():
        head = drawing.by_id[region.id]
        if loops.visits_cap(region) > VISITS_CAP:
            message = (
                f"The loops around each other at `{head.id}` may run a step more than {VISITS_CAP:,} times."
            )
            path = ("data", "config", "maxItems" if region.loop.kind == "each" else "maxVisits")
            yield head.problem("loops_too_large", message, "Lower their limits.", *path)
        for line in drawing.onward:
            yield from _sideways(region, line)
    crossing = loops.crossing()
    if crossing is not None:
        one, other = crossing
        message = f"The loops of `{one.id}` and `{other.id}` share nodes, and neither is inside the other."
        remedy = "Let branches meet before one LOGIC_GOTO, or keep the loops apart."
        yield drawing.by_id[other.id].problem("loops_cross", message, remedy)


def _sideways(region: Region, line: Line) -> Iterator[Problem]:
    """Tell of an edge into a loop past its entry."""
    edge = line.edge
    if edge.target not in region.nodes or edge.source in region.nodes or edge.target == region.entry:
        return
    if edge.source == region.id and edge.source_handle == EACH:
        return
    message = f"The edge leads from outside into the loop of `{region.id}`."
    entry = f"`{region.entry}`" if region.entry else f"the handle `{EACH}` of `{region.id}`"
    yield line.problem("loop_entered_sideways", message, f"Enter the loop by {entry}.", "target")
