"""What an operator's reset took back, as lines of the log: marked, not lost (ADR 0018).

The rows tell the run that counts. What the runs before it did from the reset on stands in the log, in lines
of the source `superseded`; no rebuild deletes them, so that they outlive the history they were read from.
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid5

from api.mirror.events import RunEnded, WasReset
from api.mirror.rows import LogRow, StepRow
from api.mirror.track import Chapter, opened


def superseded(
    execution_id: UUID, base: Sequence[Chapter], reset: WasReset, *, verbose: bool
) -> list[LogRow]:
    """Tell the steps and lines of a run that was reset, and of those that continued it, from the reset on."""
    track = opened(execution_id, base[0], verbose=verbose)
    for chapter in base:
        if chapter is not base[0]:
            track.turn_over(chapter.run_id)
        is_base = chapter.run_id == reset.base_run_id
        before = [event for event in chapter.events if is_base and event.id < reset.id]
        after = [event for event in chapter.events[len(before) :] if not _ends_by_reset(event)]
        track.projection.apply(before)
        if is_base:
            track.projection.pages.take()
        track.projection.apply(after)
    changes = track.projection.pages.take()
    lines = [replace(line, execution_step_id=None) for line in changes.logs]
    return [*lines, *(_line(step, reset) for step in changes.steps.values())]


def _ends_by_reset(event: object) -> bool:
    """Tell the reset's own doing: what was under way then did not end."""
    return isinstance(event, RunEnded) and event.was_reset


def _line(step: StepRow, reset: WasReset) -> LogRow:
    """Put a step's row into a line; the step's id would not outlive its row."""
    told = step.finished_at or step.updated_at or reset.at
    return LogRow(
        id=uuid5(step.id, reset.base_run_id),
        created_at=told,
        log_level="INFO",
        message=f"{step.label or step.node_type} {step.status}: superseded by a reset",
        data={
            "status": step.status,
            "handle": step.handle,
            "attempt": step.attempt,
            "input": step.input_data,
            "output": step.output_data,
            "error": step.error,
            "started_at": step.started_at,
            "finished_at": step.finished_at,
        },
        run_id=reset.base_run_id,
        # A step is told once of each run, however often that was reset.
        event_id=None,
        node_id=step.node_id,
        visit=step.visit,
    )
