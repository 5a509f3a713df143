"""Log lines: one JSON object each, ours and the libraries', that names its request, run and step."""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor
from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

PREFIX = "execution-"
"""What an execution's Temporal workflow id begins with."""
ABOUT = ("temporal_activity", "temporal_workflow")
"""Where the SDK's loggers put what their line is about."""

SORT = "__temporal_error_identifier"
"""Where the SDK says which of its own failures a line tells."""
LONGEST = 500

Entry = MutableMapping[str, Any]


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Write lines from this level on ("info", …) to a stream, standard error unless told otherwise.

    Whatever is bound in the context, or handed over as `extra`, stands in the line.
    """
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    # The SDK would write what its lines are about into their text as well.
    activity.logger.activity_info_on_message = False
    workflow.logger.workflow_info_on_message = False
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), named, discreet, *shared],
            processor=structlog.processors.JSONRenderer(),
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
    # Whoever asks whether the schema is there is told twice at each time that there is a database.
    logging.getLogger("alembic").setLevel(max(number, logging.WARNING))


def named(logger: Any, method: str, entry: Entry) -> Entry:
    """Say in our words which execution and step a line of the SDK's is about."""
    for key in ABOUT:
        about = entry.pop(key, None)
        if not isinstance(about, dict):
            continue
        workflow_id = str(about.get("workflow_id") or "")
        if workflow_id.startswith(PREFIX):
            entry.setdefault("execution_id", workflow_id.removeprefix(PREFIX))
        elif workflow_id:
            entry.setdefault("workflow_id", workflow_id)
        for name, ours in (("run_id", "run_id"), ("activity_id", "step"), ("attempt", "attempt")):
            if about.get(name):
                entry.setdefault(ours, about[name])
    # The SDK's native half names what its lines are about in fields of any size.
    core = entry.pop("temporal_log", None)
    for name, value in getattr(core, "fields", {}).items():
        entry.setdefault(name, str(value)[:LONGEST])
    return entry


def discreet(logger: Any, method: str, entry: Entry) -> Entry:
    """Say of an attempt that failed how and where, not in which words: they may be people's.

    The words stand in the execution's log, which has readers of its own.
    """
    if entry.pop(SORT, None) != "ActivityFailure" or not isinstance(entry.get("exc_info"), tuple):
        return entry
    kind, error, where = entry.pop("exc_info")
    if isinstance(error, ApplicationError):
        return {**entry, "error": error.type or kind.__name__}
    return {**entry, "error": kind.__name__, "exception": "".join(traceback.format_tb(where))}
