"""ACTION_HTTP_REQUEST: what is sent, what is kept, what is tried again, and what never shows."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import jsonschema_rs
import pytest
from pydantic import ValidationError
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from activities.clients import addresses
from activities.clients.http import Client
from db import effects
from local import ports
from tests.activities.conftest import Stage
from workflows.nodes.action_http_request import Config, HTTPRequest

pytestmark = pytest.mark.anyio

REQUEST = "ACTION_HTTP_REQUEST"
SECRET = "s3cret-of-the-service"
Answer = Response | Callable[[Request], Response]


def answers(target: HTTPServer, *responses: Answer) -> list[Request]:
    """Answer with one response after the other, the last one for ever; return what arrives."""
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        response = responses[min(len(seen), len(responses)) - 1]
        return response if isinstance(response, Response) else response(request)

    target.expect_request("/api").respond_with_handler(answer)
    return seen


def as_json(value: Any, status: int = 200, **headers: str) -> Response:
    return Response(json.dumps(value), status, headers, content_type="application/json")


def post(target: HTTPServer, **more: Any) -> dict[str, Any]:
    return {"method": "POST", "url": target.url_for("/api"), "body": {"email": "{{ lead.email }}"}, **more}


async def test_a_request_is_rendered_sent_and_its_answer_kept(stage: Stage, httpserver: HTTPServer):
    seen = answers(httpserver, as_json({"id": 7}, 201, ETag="x", Server="hidden"))
    config = post(
        httpserver,
        query={"tag": ["a", "b c"], "budget": "{{ trigger.budget }}", "off": False, "none": None},
        headers={"X-Lead": "{{ lead.first_name }}"},
        body={"email": "{{ lead.email }}", "fields": "{{ lead.fields }}"},
    )
    outcome = await stage.run(REQUEST, config)
    (request,) = seen
    assert request.method == "POST"
    assert request.query_string == b"tag=a&tag=b+c&budget=%245000&off=false"
    assert request.headers["X-Lead"] == "Ada"
    assert request.headers["Content-Type"] == "application/json"
    assert request.get_json() == {"email": "ada@example.com", "fields": {"budget": "5000"}}
    output = outcome.output
    assert (output["status"], output["body"], output["truncated"]) == (201, {"id": 7}, False)
    assert output["headers"] == {"content-type": "application/json", "etag": "x"}
    assert await stage.effects() == {"http": "confirmed"}


@pytest.mark.parametrize(
    ("config", "sent", "told"),
    [
        ({"body": "Hi {{ lead.name }}"}, b"Hi Ada", "text/plain; charset=utf-8"),
        (
            {"body": "<a/>", "headers": {"content-type": "application/xml"}},
            b"<a/>",
            "application/xml",
        ),
        ({"body": ["{{ trigger.budget }}", 1, None]}, b'["$5000",1,null]', "application/json"),
        ({"body": 0}, b"0", "application/json"),
    ],
)
async def test_a_text_goes_as_it_is_and_all_else_as_json(
    stage: Stage, httpserver: HTTPServer, config: dict[str, Any], sent: bytes, told: str
):
    seen = answers(httpserver, Response())
    await stage.run(REQUEST, post(httpserver, **config))
    assert (seen[0].data, seen[0].headers["Content-Type"]) == (sent, told)


@pytest.mark.parametrize(
    ("auth", "header", "sent"),
    [
        ({"type": "bearer", "token": SECRET}, "Authorization", f"Bearer {SECRET}"),
        ({"type": "basic", "username": "ada", "password": "pw"}, "Authorization", "Basic YWRhOnB3"),
        ({"type": "header", "name": "X-Api-Key", "value": SECRET}, "X-Api-Key", SECRET),
        ({"type": "none"}, "Authorization", None),
    ],
)
async def test_it_proves_itself_as_it_is_told(
    stage: Stage, httpserver: HTTPServer, auth: dict[str, str], header: str, sent: str | None
):
    seen = answers(httpserver, Response())
    await stage.run(REQUEST, post(httpserver, auth=auth))
    assert seen[0].headers.get(header) == sent


def echo(request: Request) -> Response:
    """Answer with all that was sent, as debugging services do."""
    told = {"headers": dict(request.headers), "body": request.get_data(as_text=True)}
    return as_json(told, 200, ETag=request.headers.get("Authorization", "x"))


@pytest.mark.parametrize("status", [200, 418, 503])
@pytest.mark.parametrize(
    "auth",
    [
        {"type": "bearer", "token": SECRET},
        {"type": "basic", "username": SECRET, "password": "0ther-s3cret"},
        {"type": "header", "name": "X-Api-Key", "value": SECRET},
    ],
)
async def test_no_credential_is_recorded_anywhere(
    stage: Stage, httpserver: HTTPServer, auth: dict[str, str], status: int
):
    def answer(request: Request) -> Response:
        response = echo(request)
        response.status_code = status
        return response

    answers(httpserver, answer)
    config = post(httpserver, auth=auth, url=httpserver.url_for("/api"))
    if status == 200:
        outcome = await stage.run(REQUEST, config)
        recorded = outcome.model_dump_json()
        assert outcome.input["auth"]["type"] == auth["type"]
        assert outcome.output["body"]["body"] == '{"email":"ada@example.com"}'
        # No golden history holds an answer, so its output is held against its schema here.
        assert list(jsonschema_rs.iter_errors(HTTPRequest.output_schema(), outcome.output)) == []
    else:
        failure = await stage.fail(REQUEST, config)
        recorded = f"{failure.message} {failure.cause} {failure.details}"
    for hidden in (SECRET, "0ther-s3cret", "czNjcmV0"):
        assert hidden not in recorded


async def test_a_repeat_of_what_was_answered_sends_nothing(stage: Stage, httpserver: HTTPServer):
    seen = answers(httpserver, as_json({"n": 1}), as_json({"n": 2}))
    first = await stage.run(REQUEST, post(httpserver))
    second = await stage.run(REQUEST, post(httpserver), attempt=2)
    assert first.output == second.output
    assert len(seen) == 1


async def test_every_attempt_of_one_visit_carries_the_same_key(stage: Stage, httpserver: HTTPServer):
    seen = answers(httpserver, Response(status=503), Response())
    await stage.fail(REQUEST, post(httpserver))
    await stage.run(REQUEST, post(httpserver), attempt=2)
    await stage.run(REQUEST, post(httpserver), visit=2)
    keys = [request.headers["Idempotency-Key"] for request in seen]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_only_reads_carries_no_key(stage: Stage, httpserver: HTTPServer, method: str):
    seen = answers(httpserver, Response("x"))
    outcome = await stage.run(REQUEST, {"method": method, "url": httpserver.url_for("/api")})
    assert "Idempotency-Key" not in seen[0].headers
    assert outcome.output["body"] == ("x" if method == "GET" else "")


async def test_what_may_have_arrived_is_in_doubt_and_sent_again(stage: Stage, httpserver: HTTPServer):
    """A worker that died while it waited for the answer leaves a reservation."""
    key = effects.EffectKey(stage.place.workspace_id, stage.execution_id, "n1", 1, "http")
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await effects.reserve(session, key)
    seen = answers(httpserver, Response(status=429), Response())
    await stage.fail(REQUEST, post(httpserver))
    assert await stage.effects() == {"http": "unknown"}
    await stage.run(REQUEST, post(httpserver), attempt=2)
    assert len(seen) == 2
    assert await stage.effects() == {"http": "confirmed"}


@pytest.mark.parametrize(
    ("status", "is_final", "effect"),
    [
        (400, True, "released"),
        (404, True, "released"),
        (302, True, "released"),
        (500, True, "released"),
        (429, False, "released"),
        (503, False, "released"),
        (502, False, "unknown"),
        (504, False, "unknown"),
    ],
)
async def test_a_bad_answer_fails_or_is_tried_again(
    stage: Stage, httpserver: HTTPServer, status: int, is_final: bool, effect: str
):
    answers(httpserver, Response("no such thing", status))
    failure = await stage.fail(REQUEST, post(httpserver))
    assert (failure.type, failure.non_retryable) == ("http_status", is_final)
    assert failure.message == f"The service answered {status}: no such thing."
    assert await stage.effects() == {"http": effect}
    last = await stage.fail(REQUEST, post(httpserver), attempt=5)
    assert last.non_retryable


@pytest.mark.parametrize(
    ("wanted", "seconds"), [("7", 7), ("0", 1), ("999999", 3600), (None, None), ("soon", None), ("-5", None)]
)
async def test_a_services_own_wish_says_when(
    stage: Stage, httpserver: HTTPServer, wanted: str | None, seconds: int | None
):
    answers(httpserver, Response(status=429, headers={"Retry-After": wanted} if wanted else {}))
    failure = await stage.fail(REQUEST, post(httpserver))
    assert failure.next_retry_delay == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("statuses", "status", "succeeds"),
    [([404], 404, True), (["200-299", 409], 409, True), (["400-499"], 429, True), ([201], 200, False)],
)
async def test_which_answers_are_good_is_for_the_node_to_say(
    stage: Stage, httpserver: HTTPServer, statuses: list[int | str], status: int, succeeds: bool
):
    answers(httpserver, Response(status=status))
    config = post(httpserver, successStatuses=statuses)
    if succeeds:
        assert (await stage.run(REQUEST, config)).output["status"] == status
    else:
        assert (await stage.fail(REQUEST, config)).type == "http_status"


def slowly(request: Request) -> Response:
    """Answer too late."""
    time.sleep(1)
    return Response()


async def test_a_service_that_is_away_or_slow_is_tried_again(stage: Stage, httpserver: HTTPServer):
    failure = await stage.fail(REQUEST, {"url": f"http://127.0.0.1:{ports.free()}/"})
    assert (failure.type, failure.non_retryable) == ("unreachable", False)
    assert await stage.effects() == {"http": "released"}
    answers(httpserver, slowly)
    failure = await stage.fail(REQUEST, post(httpserver, timeoutSeconds=0.2))
    assert (failure.type, failure.non_retryable) == ("deadline_exceeded", False)
    assert await stage.effects() == {"http": "unknown"}


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/", "http://169.254.169.254/latest", "https://localhost/", "https://10.0.0.1/", "x"],
)
async def test_no_private_address_is_called(stage: Stage, url: str):
    guarded = Client(replace(addresses.PRODUCTION, schemes=frozenset({"http", "https"}), ports=None))
    failure = await stage.fail(REQUEST, {"url": url}, world=replace(stage.world, http=guarded))
    assert (failure.type, failure.non_retryable) == ("blocked_destination", True)
    assert await stage.effects() == {"http": "released"}
    await guarded.aclose()


@pytest.mark.parametrize(
    ("config", "type_"),
    [
        ({"headers": {"X-Name": "{{ trigger.evil }}"}}, "refused_header"),
        ({"headers": {"Host": "example.com"}}, "refused_header"),
        ({"headers": {"Cookie": "a=b"}}, "refused_header"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "refused_header"),
        ({"query": {"a": {"b": 1}}}, "bad_query"),
        ({"url": "{{ trigger.nothing }}"}, "template_error"),
        ({"auth": {"type": "bearer", "token": "ä"}}, "refused_header"),
    ],
)
async def test_what_cannot_be_sent_as_meant_is_not_sent(
    stage: Stage, httpserver: HTTPServer, config: dict[str, Any], type_: str
):
    seen = answers(httpserver, Response())
    stage.trigger["evil"] = "a\r\nX-Other: b"
    failure = await stage.fail(REQUEST, post(httpserver, **config))
    assert (failure.type, failure.non_retryable) == (type_, True)
    assert seen == []


@pytest.mark.parametrize(
    ("content", "media", "kept"),
    [
        (b'{"a": [1, null]}', "application/json; charset=utf-8", {"a": [1, None]}),
        (b'{"a": 1}', "application/problem+json", {"a": 1}),
        (b'{"a": 1}', "text/html", '{"a": 1}'),
        (b"{broken", "application/json", "{broken"),
        (b"[NaN]", "application/json", "[NaN]"),
        (b'["\\u0000"]', "application/json", '["\\u0000"]'),
        (b'["\\ud800"]', "application/json", '["\\ud800"]'),
        (b"[" * 5000, "application/json", "[" * 5000),
        (b"[" * 70 + b"]" * 70, "application/json", "[" * 70 + "]" * 70),
        (b"a\0b\xff", "text/plain", "a�b�"),
        (b"", "application/json", ""),
    ],
)
async def test_json_that_can_be_stored_is_parsed_and_all_else_is_text(
    stage: Stage, httpserver: HTTPServer, content: bytes, media: str, kept: Any
):
    answers(httpserver, Response(content, content_type=media))
    outcome = await stage.run(REQUEST, {"url": httpserver.url_for("/api")})
    assert outcome.output["body"] == kept


async def test_a_long_answer_is_cut(stage: Stage, httpserver: HTTPServer):
    answers(httpserver, as_json(["x" * 1000]))
    outcome = await stage.run(REQUEST, {"url": httpserver.url_for("/api"), "maxResponseBytes": 10})
    assert (outcome.output["body"], outcome.output["truncated"]) == ('["xxxxxxxx', True)


@pytest.mark.parametrize("character", ["x", "é", "\x01", "🎉"])
async def test_the_longest_answer_still_fits_into_history(
    stage: Stage, httpserver: HTTPServer, character: str
):
    content = character * (256 * 1024 // len(character.encode()))
    answers(httpserver, Response(content, content_type="text/plain; charset=utf-8"))
    config = {"url": httpserver.url_for("/api"), "maxResponseBytes": 256 * 1024}
    outcome = await stage.run(REQUEST, config)
    assert outcome.output["truncated"]
    assert len(json.dumps(outcome.output)) > 200 * 1024


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"url": ""},
        {"url": "x", "method": "TRACE"},
        {"url": "x", "method": "GET", "body": "x"},
        {"url": "x", "headers": {"Authorization": "Bearer x"}},
        {"url": "x", "headers": {"idempotency-key": "x"}},
        {"url": "x", "headers": {"a b": "x"}},
        {"url": "x", "auth": {"type": "bearer"}},
        {"url": "x", "auth": {"type": "bearer", "token": "{{ vars.x }}"}},
        {"url": "x", "auth": {"type": "basic", "username": "x"}},
        {"url": "x", "auth": {"type": "none", "token": "x"}},
        {"url": "x", "auth": {"type": "header", "name": "a b", "value": "x"}},
        {"url": "x", "timeoutSeconds": 121},
        {"url": "x", "maxResponseBytes": 256 * 1024 + 1},
        {"url": "x", "successStatuses": []},
        {"url": "x", "successStatuses": ["2xx"]},
        {"url": "x", "successStatuses": [99]},
    ],
)
def test_a_config_that_could_not_be_honoured_is_refused(config: dict[str, Any]):
    with pytest.raises(ValidationError):
        Config.model_validate(config)
