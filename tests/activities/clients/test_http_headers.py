"""Which headers and methods may go out, from tenants and from our own code."""

import pytest

from activities.clients import http
from activities.clients.addresses import DEVELOPMENT


@pytest.fixture
async def client():
    client = http.Client(DEVELOPMENT)
    yield client
    await client.aclose()


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-id": "x"},
        {"Webhook-Signature": "x"},
        {"webhook-timestamp": "1"},
        {"svix-id": "x"},
        {"Host": "evil.example"},
        {"content-length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"connection": "close"},
        {"Cookie": "a=b"},
        {"x": "a\r\nb: c"},
        {"x": "a\nb"},
        {"x": "a\rb"},
        {"x": "a\x00b"},
        {"x\r\ny": "a"},
        {"x y": "a"},
        {"x:": "a"},
        {"": "a"},
        {"x": " a"},
        {"x": "ü"},
        {"x": "1", "X": "2"},
        {"x": "a" * 20000},
    ],
)
def test_a_tenant_may_not_set_these_headers(headers):
    with pytest.raises(http.RefusedHeader):
        http.check_headers(headers)


def test_a_tenant_may_set_ordinary_headers():
    http.check_headers(
        {"Authorization": "Bearer x.y", "X-Empty": "", "content-type": "application/json; a=b"}
    )


@pytest.mark.parametrize("headers", [{"x": "a\r\nb: c"}, {"host": "x"}, {"content-length": "1"}])
@pytest.mark.anyio
async def test_no_caller_may_break_the_framing(client, headers):
    with pytest.raises(http.RefusedHeader):
        await client.send("GET", "http://127.0.0.1:1/", headers)


@pytest.mark.parametrize("method", ["get", "CONNECT", "TRACE", "GET / HTTP/1.1\r\nx:", ""])
@pytest.mark.anyio
async def test_only_ordinary_methods_are_sent(client, method):
    with pytest.raises(ValueError, match="not a method"):
        await client.send(method, "http://127.0.0.1:1/")
