"""Several statements in one message: PostgreSQL's extended protocol, below the driver's cursors (ADR 0025).

Up to the one Sync at its end a message is one transaction, unless another is open already: it is committed
with the last statement, or undone with the first that fails. There is one wait for all of it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, LiteralString

import psycopg
from psycopg import pq
from psycopg.abc import PQGen, Transformer
from psycopg.adapt import PyFormat
from psycopg.adapt import Transformer as Transforming
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

Statement = tuple[LiteralString, Mapping[str, Any]]
"""What is to be run, its values standing as `%(name)s`, and the values."""
Rows = list[Any]
Planned = tuple[bytes, tuple[int, ...]]
"""A statement is planned for the types of its values."""
PLACE = re.compile(r"%\((\w+)\)s")


@dataclass
class Plans:
    """The statements that PostgreSQL keeps ready on one connection."""

    names: dict[Planned, bytes] = field(default_factory=dict)
    given: int = 0

    def name(self) -> bytes:
        """Give a name; none is given twice, whatever became of its statement."""
        self.given += 1
        return b"flowtrack_%d" % self.given


@dataclass(frozen=True)
class _Part:
    """A statement as it goes over the wire."""

    command: bytes
    values: Sequence[Any]
    types: tuple[int, ...]
    formats: Sequence[Any] | None


def is_fit(driver: psycopg.AsyncConnection[Any]) -> bool:
    """Tell without a wait whether an idle connection is still there: what PostgreSQL closed can be read."""
    try:
        # It says why before it closes: the first reading finds that, the second the end.
        driver.pgconn.consume_input()
        driver.pgconn.consume_input()
    except psycopg.Error:
        return False
    return driver.pgconn.status == pq.ConnStatus.OK


async def exchange(
    driver: psycopg.AsyncConnection[Any], statements: Sequence[Statement], plans: Plans | None
) -> list[Rows]:
    """Run statements and return the rows of each; raises the psycopg.Error of the first that failed.

    Without `plans` nothing is left on the connection, as a transaction pooler wants it.
    """
    transformer: Transformer = Transforming(driver)
    parts = [_part(transformer, statement) for statement in statements]
    was_idle = driver.pgconn.transaction_status == pq.TransactionStatus.IDLE
    try:
        results = await _sent(driver, parts, plans)
    except psycopg.errors.InvalidSqlStatementName:
        if plans is None or not was_idle:
            raise
        # Whenever the driver rolls back it drops all plans. Nothing was done: the whole message is void.
        plans.names.clear()
        results = await _sent(driver, parts, plans)
    return [_rows(transformer, result) for result in results]


async def _sent(
    driver: psycopg.AsyncConnection[Any], parts: Sequence[_Part], plans: Plans | None
) -> list[PGresult]:
    """Send the parts and return a result for each."""
    connection = driver.pgconn
    connection.enter_pipeline_mode()
    try:
        made = [_put(connection, part, plans) for part in parts]
        connection.pipeline_sync()
        results = iter(await driver.wait(_talk(connection)))
    finally:
        _leave(connection)
    found = []
    for part, name in zip(parts, made, strict=True):
        if plans is not None and name is not None:
            _checked(next(results))
            plans.names[part.command, part.types] = name
        found.append(_checked(next(results)))
    return found


def _part(transformer: Transformer, statement: Statement) -> _Part:
    command, names = numbered(statement[0])
    given = [statement[1][name] for name in names]
    values = transformer.dump_sequence(given, [PyFormat.AUTO] * len(given))
    return _Part(command, values, transformer.types or (), transformer.formats)


@cache
def numbered(text: LiteralString) -> tuple[bytes, tuple[str, ...]]:
    """Write a statement as PostgreSQL reads it, `$1` for the first of the names."""
    numbers: dict[str, int] = {}
    command = PLACE.sub(lambda place: f"${numbers.setdefault(place[1], len(numbers) + 1)}", text)
    return command.replace("%%", "%").encode(), tuple(numbers)


def _put(connection: PGconn, part: _Part, plans: Plans | None) -> bytes | None:
    """Queue a statement, and before it its planning if it has none; returns the name of a new plan."""
    if plans is None:
        connection.send_query_params(part.command, part.values, part.types, part.formats)
        return None
    name = plans.names.get((part.command, part.types))
    new = plans.name() if name is None else None
    if new is not None:
        connection.send_prepare(new, part.command, part.types)
    connection.send_query_prepared(name or new or b"", part.values, part.formats)
    return new


def _talk(connection: PGconn) -> PQGen[list[PGresult]]:
    """Write what is queued and read all that comes back, up to the end of the message."""
    while connection.flush() != 0:
        ready = yield Wait.RW
        if ready & Ready.R:
            connection.consume_input()
    results: list[PGresult] = []
    while True:
        while connection.is_busy():
            if (yield Wait.R):
                connection.consume_input()
        result = connection.get_result()
        if result is not None and result.status != pq.ExecStatus.PIPELINE_SYNC:
            results.append(result)
        elif result is not None:
            return results
        elif connection.status == pq.ConnStatus.BAD:
            # Where PostgreSQL said why, that stands among the results.
            if any(result.status == pq.ExecStatus.FATAL_ERROR for result in results):
                return results
            raise psycopg.OperationalError("the connection was lost")


def _leave(connection: PGconn) -> None:
    """End the conversation; a connection that is still owed an answer is of no use to anybody else."""
    try:
        connection.exit_pipeline_mode()
    except psycopg.Error:
        connection.finish()


def _checked(result: PGresult) -> PGresult:
    if result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED):
        raise error_from_result(result).with_traceback(None)
    return result


def _rows(transformer: Transformer, result: PGresult) -> Rows:
    if result.status != pq.ExecStatus.TUPLES_OK:
        return []
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)
