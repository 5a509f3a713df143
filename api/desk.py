"""The desk that takes submissions in: it knows the forms by heart and writes together what comes together."""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from psycopg.errors import DeadlockDetected, SerializationFailure
from sqlalchemy.exc import DBAPIError

from api.batches import Batches
from db import doors, forms, intake
from db.forms import Form
from db.intake import Accepted, Submission
from db.session import Database

ATTEMPTS = 3
LANES = 3
"""Transactions of submissions at once; more would only be smaller."""
TOGETHER = 32
"""Submissions in one transaction."""
KNOWN, KNOWN_BYTES = 1_000, 16 * 1024 * 1024
"""Forms kept in memory, and what they may weigh as JSON; the last one read is kept in any case."""

Group = tuple[Hashable, ...]


class Desk:
    """Finds public forms and writes what is submitted."""

    def __init__(self, database: Database, *, name: str | None = None, most_bytes: int = KNOWN_BYTES) -> None:
        """Prepare; `name` is who starts the runs that are ordered here, if somebody does."""
        self._most_bytes = most_bytes
        self._database = database
        self._name = name
        self._forms: OrderedDict[tuple[str, str], Form] = OrderedDict()
        self._bytes = 0
        self._batches = Batches[Group, tuple[Form, Submission], Accepted](
            self._write, lanes=LANES, most=TOGETHER, names=_names
        )

    def known(self, workspace: str, form: str) -> Form | None:
        """Give a form as it was when last read; it may have changed since, which `accept` notices."""
        found = self._forms.get((workspace, form))
        if found is not None:
            self._forms.move_to_end((workspace, form))
        return found

    async def read(self, workspace: str, form: str) -> Form | None:
        """Read a form as it is now; None if there is none that takes submissions."""
        self._forget((workspace, form))
        async with self._database.door() as session:
            door = await doors.form(session, workspace, form)
        if door is None or door.status not in ("active", "paused"):
            return None
        async with self._database.workspace(door.workspace_id) as session:
            found = await forms.load(session, door.workspace_id, door.workflow_id)
        if found is not None:
            self._keep((workspace, form), found)
        return found

    def _keep(self, name: tuple[str, str], form: Form) -> None:
        self._forget(name)
        self._forms[name] = form
        self._bytes += form.size
        while len(self._forms) > KNOWN or (self._bytes > self._most_bytes and len(self._forms) > 1):
            self._forget(next(iter(self._forms)))

    def _forget(self, name: tuple[str, str]) -> None:
        form = self._forms.pop(name, None)
        self._bytes -= form.size if form else 0

    async def accept(self, form: Form, submission: Submission, *, starts: bool = True) -> Accepted:
        """Write a submission, or find that it was written before; raises as `intake.accept` does."""
        if not submission.is_sociable:
            return await self._alone(form, submission, starts=starts)
        group = (form.workspace_id, form.workflow_id, form.stamp, submission.policy, starts)
        return await self._batches.add(group, (form, submission))

    async def _write(
        self, group: Group, given: Sequence[tuple[Form, Submission]]
    ) -> Sequence[Accepted | Exception]:
        form, starts = given[0][0], bool(group[-1])
        submissions = [submission for _, submission in given]
        try:
            starter = self._starter(starts)
            accepted = await intake.accept_at_once(self._database, form, submissions, starter=starter)
            if accepted is not None:
                return accepted
            async with self._database.workspace(form.workspace_id) as session:
                return await intake.accept_all(session, form, submissions, starter=starter)
        except DBAPIError as error:
            if error.connection_invalidated or (len(given) == 1 and not _passes(error)):
                raise
        # One of them spoils it for all: each by itself tells which.
        alone = (self._alone(form, submission, starts=starts) for submission in submissions)
        found = await asyncio.gather(*alone, return_exceptions=True)
        return [one if isinstance(one, Accepted | Exception) else RuntimeError(repr(one)) for one in found]

    async def _alone(self, form: Form, submission: Submission, *, starts: bool) -> Accepted:
        attempt = 1
        while True:
            try:
                async with self._database.workspace(form.workspace_id) as session:
                    return await intake.accept(session, form, submission, starter=self._starter(starts))
            except DBAPIError as error:
                if not _passes(error) or attempt == ATTEMPTS:
                    raise
                attempt += 1

    def _starter(self, starts: bool) -> str | None:
        return self._name if starts else None


def _passes(error: DBAPIError) -> bool:
    """Tell trouble among transactions, which another attempt may not have."""
    return isinstance(error.orig, DeadlockDetected | SerializationFailure)


def _names(given: tuple[Form, Submission]) -> frozenset[Hashable]:
    """Name the rows that a submission competes for: its key and its lead."""
    submission = given[1]
    return frozenset(
        {("key", submission.claim.key), ("lead", submission.lead.get("email") or submission.execution_id)}
    )
