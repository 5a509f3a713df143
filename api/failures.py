"""Turning whatever a handler lets out into the problem it is."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from temporalio.service import RPCError

from api import errors, requests
from api.pages import form as page
from workflows.problems import pointer

log = structlog.get_logger()

BY_STATUS: dict[int, type[errors.Refusal]] = {
    400: errors.Malformed,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodRefused,
    413: errors.BodyTooLarge,
    415: errors.MediaTypeRefused,
}
MESSAGES = {"model_attributes_type": "The body must be an object."}
"""Where pydantic speaks of Python."""
UNREADABLE = re.compile(r"[^\w\-.:@+, ]")
"""What no filter or sort key contains: such a text is no value at all, so 400 and not 422."""


def install(app: FastAPI, *, docs_url: str) -> None:
    """Register a translation for each kind of failure."""

    def answer(request: Request, refusal: errors.Refusal) -> Response:
        if _is_for_people(request):
            headers = {**refusal.headers, "Content-Security-Policy": page.POLICY}
            return HTMLResponse(page.notice(refusal.title, refusal.detail), refusal.status, headers)
        request_id = requests.request_id_of(request.scope)
        return errors.response(refusal, request_id=request_id, docs_url=docs_url)

    def handler(translate: Any) -> Any:
        async def handle(request: Request, error: Exception) -> Response:
            return answer(request, translate(error))

        return handle

    async def end(request: Request, error: Exception) -> Response:
        return Response(status_code=204)

    app.add_exception_handler(errors.Refusal, handler(lambda error: error))
    app.add_exception_handler(errors.NothingMore, end)
    app.add_exception_handler(RequestValidationError, handler(of_validation))
    app.add_exception_handler(HTTPException, handler(of_http))
    for kind in (OperationalError, InterfaceError, PoolTimeout, RPCError):
        app.add_exception_handler(kind, handler(of_outage))
    app.add_exception_handler(DBAPIError, handler(of_database))


def _is_for_people(request: Request) -> bool:
    """Tell a browser on a form's page from a program: it gets words, not JSON."""
    return request.url.path.startswith("/f/") and "text/html" in request.headers.get("accept", "")


def of_http(error: HTTPException) -> errors.Refusal:
    """Translate the framework's own refusals, without their texts."""
    refusal = BY_STATUS.get(error.status_code, errors.Broken)()
    refusal.headers.update(error.headers or {})
    return refusal


def of_outage(error: Exception) -> errors.Refusal:
    """Say that the database or Temporal is away, or too busy."""
    # The wrapped error says what happened; SQLAlchemy's own text adds the statement and its values.
    log.warning("unavailable", error=type(error).__name__, reason=str(getattr(error, "orig", error))[:200])
    return errors.Unavailable()


def of_database(error: DBAPIError) -> errors.Refusal:
    """Translate what slipped past every check: still the client's value, or still a conflict."""
    told = getattr(error.orig, "diag", None)
    log.error(
        "database refused",
        error=type(error.orig).__name__,
        table=getattr(told, "table_name", None),
        column=getattr(told, "column_name", None),
        constraint=getattr(told, "constraint_name", None),
    )
    if isinstance(error, DataError):
        return errors.Invalid("A value cannot be stored.")
    if isinstance(error, IntegrityError):
        return errors.Conflict("Another request changed this at the same time.")
    if error.connection_invalidated:
        return errors.Unavailable()
    return errors.Broken()


def of_validation(error: RequestValidationError) -> errors.Refusal:
    """Name every field that is wrong; an id that is none names nothing, so 404."""
    mistakes: Sequence[Any] = error.errors()
    if any(mistake["loc"][0] == "path" for mistake in mistakes):
        return errors.NotFound()
    details = [detail for mistake in mistakes[: errors.MAX_DETAILS] for detail in _details(mistake)]
    if any(_is_unreadable(mistake) for mistake in mistakes):
        return errors.Malformed("A query parameter could not be read.", errors=details)
    return errors.Invalid(errors=details)


def _is_unreadable(mistake: Any) -> bool:
    given = mistake.get("input")
    return (
        mistake["loc"][0] == "query"
        and mistake["type"] != "extra_forbidden"
        and isinstance(given, str)
        and UNREADABLE.search(given) is not None
    )


def _details(mistake: Any) -> Iterator[errors.Detail]:
    where, *rest = mistake["loc"]
    code = str(mistake["type"])
    # pydantic's messages name the rule, never the value: what was sent is not echoed.
    message = MESSAGES.get(code) or str(mistake["msg"]).removeprefix("Value error, ")
    if where == "body":
        yield errors.Detail(code=code, message=message, pointer=pointer(*rest))
    elif where == "header":
        yield errors.Detail(code=code, message=message, header=str(rest[0]) if rest else None)
    else:
        yield errors.Detail(code=code, message=message, parameter=str(rest[0]) if rest else None)
