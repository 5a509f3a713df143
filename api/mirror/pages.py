"""What a projection writes on: the rows of one execution, in the words that people read."""

from typing import Any
from uuid import UUID

from api.mirror.events import Event, RunEnded, Started, WasReset
from api.mirror.rows import MASK, Changes, LogRow, StepRow, log_id, step_id
from workflows.graph import Node, split_key
from workflows.messages import Outcome

LEVELS = {"DEBUG", "INFO", "WARN", "ERROR"}
ENDINGS = {"completed": "INFO", "cancelled": "WARN", "failed": "ERROR"}


class Pages:
    """Collects what events changed; `take` hands it over.

    What the step rows tell already (started, asleep, completed, skipped) goes into the log only if `verbose`:
    a line takes as much room as a step.
    """

    def __init__(self, execution_id: UUID, *, verbose: bool = False) -> None:
        self.execution_id = execution_id
        self.hidden: frozenset[str] = frozenset()
        """Nodes whose input and output are masked."""
        self._verbose = verbose
        self._changes = Changes()
        self._event: Event | None = None
        self._run_id = ""
        self._ordinal = 0

    def turn(self, event: Event, run_id: str) -> None:
        """Go on to the next event: what is written from here on came of it."""
        self._event, self._ordinal = event, 0
        self._run_id = event.run_id if isinstance(event, Started | WasReset) else run_id

    def go_on(self, event: Event) -> None:
        """Go on within an event that stands for several, to its next part."""
        self._event = event

    @property
    def lines(self) -> int:
        """Count the log lines that were written since the last call of `take`."""
        return len(self._changes.logs)

    def take(self) -> Changes:
        """Hand over what was written since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    def execution(self, **columns: Any) -> None:
        """Change columns of the execution."""
        self._changes.execution.update(columns)

    def begin(self, event: Started) -> None:
        """Write down that the execution began; whatever an earlier, reset run made of it is undone."""
        blank = dict.fromkeys(("status_reason", "finished_at", "output_data", "error"))
        self.execution(**blank, started_at=event.at)
        self._log("INFO", "Run started")

    def end(self, event: RunEnded, cause: str) -> None:
        """Write down how the execution ended; a cause that is one word is the reason itself."""
        error = {"type": event.reason, "message": cause} if cause else event.error
        reason = cause if cause.isidentifier() else event.reason
        self.execution(
            status=event.status,
            status_reason=reason,
            finished_at=event.at,
            output_data=event.output,
            error=error,
        )
        told = f"Run {event.status}" + (f" ({reason})" if reason else "")
        message = f"{told}: {error['message']}" if error else told
        self._log(ENDINGS[event.status], message)

    def step(self, node: Node, key: str, *, outcome: Outcome | None = None, **columns: Any) -> None:
        """Write a step's row as it stands now."""
        if outcome is not None:
            columns |= {
                "input_data": self._shown(node, outcome.input),
                "output_data": self._shown(node, outcome.output),
                "handle": ",".join(outcome.handles) or None,
            }
        self._changes.steps[key] = StepRow(
            id=step_id(self.execution_id, key),
            node_id=node.id,
            node_type=node.type,
            label=node.label,
            visit=visit_of(key),
            **columns,
        )

    def quote(self, node: Node, key: str, outcome: Outcome) -> None:
        """Write the lines that the node itself asked for."""
        for line in outcome.log:
            level = line.level if line.level in LEVELS else "INFO"
            self._log(level, str(self._shown(node, line.message)), data=self._shown(node, line.data), key=key)

    def note(self, message: str, *, key: str | None = None) -> None:
        """Write what somebody did to the run."""
        self._log("INFO", message, key=key)

    def fail(self, node: Node, key: str, error: dict[str, Any]) -> None:
        """Write why a step failed."""
        message = f"{node.label or node.type} failed: {error['message']}"
        self._log("ERROR", message, data={"type": error["type"]}, key=key)

    def narrate(self, node: Node, key: str, what: str, *, level: str = "DEBUG") -> None:
        """Write what the step's row tells as well, where that is wanted."""
        if self._verbose:
            self._log(level, f"{node.label or node.type} {what}", key=key)

    def _shown(self, node: Node, value: Any) -> Any:
        return MASK if node.id in self.hidden and value is not None else value

    def _log(self, level: str, message: str, *, data: Any = None, key: str | None = None) -> None:
        event = self._event
        if event is None:
            raise LookupError("no event to write of")
        named = split_key(key) if key else None
        self._changes.logs.append(
            LogRow(
                id=log_id(
                    self.execution_id, self._run_id, at=event.at, event_id=event.id, ordinal=self._ordinal
                ),
                created_at=event.at,
                log_level=level,
                message=message,
                data=data,
                run_id=self._run_id,
                event_id=event.id,
                execution_step_id=step_id(self.execution_id, key) if key else None,
                node_id=named[0] if named else None,
                visit=named[1] if named else None,
            )
        )
        self._ordinal += 1


def visit_of(key: str) -> int:
    """Read the visit out of a step's key."""
    parts = split_key(key)
    if parts is None:
        raise KeyError(key)
    return parts[1]
