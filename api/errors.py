"""Every way a request can fail, as RFC 9457 problems.

Refusal
├── Malformed 400 ── InvalidCursor
├── Unauthorized 401
├── CallerUnproved 401
├── Forbidden 403 ── RenderTokenRefused, OriginRefused
├── NotFound 404
├── MethodRefused 405
├── BodyTimeout 408
├── Conflict 409 ── InFlight, KeyReused, DuplicateSubmission
├── FormClosed 410
├── StaleVersion 412
├── BodyTooLarge 413
├── MediaTypeRefused 415
├── Invalid 422 ── BlockedDestination
├── VersionRequired 428
├── TooManyRequests, TooManyStreams 429
├── Broken 500
└── Unavailable 503
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
MAX_DETAILS = 50
"""A body with half a million mistakes gets an answer that can still be read."""


class Detail(BaseModel):
    """One mistake, and where it stands."""

    model_config = ConfigDict(title="ProblemDetail", frozen=True)

    code: str = Field(examples=["missing"])
    message: str = Field(examples=["Field required"])
    pointer: str | None = Field(None, description="JSON pointer into the body.", examples=["/name"])
    parameter: str | None = Field(None, description="Name of a query or path parameter.")
    header: str | None = Field(None, description="Name of a header.")
    node_id: str | None = Field(None, description="The graph's node, by its React Flow id.")
    field: str | None = Field(None, description="The form field or the key of the node's config.")
    remedy: str | None = Field(None, description="What to do about it.")
    line: int | None = Field(None, description="Line within a template.")
    column: int | None = Field(None, description="Column within a template.")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="A URI that names the kind of problem and leads to its explanation.")
    title: str = Field(description="The kind of problem in words.", examples=["The request is wrong"])
    status: int = Field(examples=[422])
    code: str = Field(description="Stable; decide by this one.", examples=["invalid"])
    detail: str = Field(description="What happened this time.")
    request_id: str = Field(description="Name it when you ask for help.")
    errors: list[Detail] | None = Field(None, description="Each single mistake.")


class Refusal(Exception):
    """The request was refused."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "refused"
    title: ClassVar[str] = "The request was refused"

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Iterable[Detail] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or self.__doc__)
        self.detail = detail or (self.__doc__ or "")
        self.errors: Sequence[Detail] = tuple(errors)[:MAX_DETAILS]
        self.headers = dict(headers or {})


class Malformed(Refusal):
    """The request could not be read."""

    status, code, title = 400, "malformed", "The request could not be read"


class InvalidCursor(Malformed):
    """This cursor was not made by this list; begin again without one."""

    code = "invalid_cursor"


class Unauthorized(Refusal):
    """A valid API key is needed: `Authorization: Bearer ft_…`."""

    status, code, title = 401, "unauthorized", "Who are you?"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="FlowTrack"'})


class CallerUnproved(Refusal):
    """This hook wants its secret, or a signature made with it in the last five minutes."""

    status, code, title = 401, "caller_unproved", "Who are you?"


class Forbidden(Refusal):
    """This caller may not do that."""

    status, code, title = 403, "forbidden", "Not allowed"


class RenderTokenRefused(Forbidden):
    """This page has been open for too long or was changed; load the form again."""

    code, title = "render_token_refused", "Load the form again"


class OriginRefused(Forbidden):
    """This form takes no submissions from that site."""

    code = "origin_refused"


class NotFound(Refusal):
    """There is nothing here."""

    status, code, title = 404, "not_found", "Not found"


class MethodRefused(Refusal):
    """This method is not offered here; the Allow header names those that are."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class BodyTimeout(Refusal):
    """The body did not arrive in time."""

    status, code, title = 408, "body_timeout", "The request took too long"


class Conflict(Refusal):
    """The request does not fit the state of things."""

    status, code, title = 409, "conflict", "Conflict"

    def __init__(self, detail: str = "", *, code: str | None = None, errors: Iterable[Detail] = ()) -> None:
        super().__init__(detail, errors=errors)
        if code:
            self.code = code  # type: ignore[misc]  # a conflict's reason is finer than its class


class InFlight(Conflict):
    """A request with this Idempotency-Key is still at work."""

    code = "in_flight"


class KeyReused(Conflict):
    """This Idempotency-Key was used for another request."""

    code = "idempotency_key_reused"


class DuplicateSubmission(Conflict):
    """This form takes one submission per e-mail address, and has one from this address."""

    code = "duplicate_submission"


class GraphUnreadable(Conflict):
    """This version was published by another release and cannot be read by this one; publish anew."""

    code = "graph_unreadable"


class FormClosed(Refusal):
    """This form takes no more submissions."""

    status, code, title = 410, "form_closed", "The form is closed"


class StaleVersion(Refusal):
    """Somebody else saved meanwhile; read the newest version and apply your change to that."""

    status, code, title = 412, "stale_version", "Not the newest version"


class BodyTooLarge(Refusal):
    """The body is larger than this address takes."""

    status, code, title = 413, "body_too_large", "Too large"


class MediaTypeRefused(Refusal):
    """Send UTF-8 JSON as `Content-Type: application/json`, without a content encoding."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class Invalid(Refusal):
    """The request can be read, but something in it is wrong."""

    status, code, title = 422, "invalid", "The request is wrong"


class BlockedDestination(Invalid):
    """This URL is not allowed as a destination."""

    code = "blocked_destination"


class VersionRequired(Refusal):
    """Send `If-Match` with the ETag of the version that you changed."""

    status, code, title = 428, "version_required", "Which version did you change?"


class TooManyRequests(Refusal):
    """That is more than this address answers at once; wait as long as Retry-After says."""

    status, code, title = 429, "too_many_requests", "Too many requests"

    def __init__(self, detail: str = "", *, retry_after: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class TooManyStreams(Refusal):
    """This workspace has as many event streams open as it may; close some, or ask from time to time."""

    status, code, title = 429, "too_many_streams", "Too many streams"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "15"})


class NothingMore(Exception):
    """A stream that is to go on has ended: no refusal, but 204 without a body."""


class Broken(Refusal):
    """Something went wrong on our side; the request id leads us to it."""

    status, code, title = 500, "internal_error", "Our mistake"


class Unavailable(Refusal):
    """A part of FlowTrack cannot be reached at the moment; try again."""

    status, code, title = 503, "unavailable", "Try again in a moment"

    def __init__(self, detail: str = "", *, retry_after: int = 1, errors: Iterable[Detail] = ()) -> None:
        super().__init__(detail, errors=errors, headers={"Retry-After": str(retry_after)})


def kinds() -> list[type[Refusal]]:
    """List every kind of problem, for the reference."""
    found: list[type[Refusal]] = []
    waiting: list[type[Refusal]] = Refusal.__subclasses__()
    while waiting:
        kind = waiting.pop(0)
        found.append(kind)
        waiting.extend(kind.__subclasses__())
    return sorted(found, key=lambda kind: (kind.status, kind.code))


def document(refusal: Refusal, *, request_id: str, docs_url: str = "/docs") -> dict[str, Any]:
    """Write a refusal as a problem document."""
    problem = Problem(
        type=f"{docs_url}#problem-{refusal.code}",
        title=refusal.title,
        status=refusal.status,
        code=refusal.code,
        detail=refusal.detail,
        request_id=request_id,
        errors=list(refusal.errors) or None,
    )
    return problem.model_dump(exclude_none=True)


def response(refusal: Refusal, *, request_id: str, docs_url: str = "/docs") -> JSONResponse:
    """Answer with a problem document."""
    return JSONResponse(
        document(refusal, request_id=request_id, docs_url=docs_url),
        status_code=refusal.status,
        headers=refusal.headers,
        media_type=MEDIA_TYPE,
    )


def responses(*kinds_: type[Refusal]) -> dict[int | str, dict[str, Any]]:
    """Document the problems of an operation for OpenAPI."""
    grouped: dict[int | str, list[type[Refusal]]] = {}
    for kind in kinds_:
        grouped.setdefault(kind.status, []).append(kind)
    return {
        status: {
            "description": " ".join((kind.__doc__ or "").strip() for kind in group),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, group in grouped.items()
    }
