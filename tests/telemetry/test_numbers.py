"""The listener of the metrics: one page, on its own address, and never in the way of the work."""

import socket

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from telemetry import numbers

pytestmark = pytest.mark.anyio


def page(**options: object) -> numbers.Page:
    registry = CollectorRegistry()
    Counter("flowtrack_things", "Things", registry=registry).inc(3)
    return numbers.Page(registry, **options)  # type: ignore[arg-type] # as the tests give them


async def fetched(address: str | None, path: str = "/metrics") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://{address}{path}")


async def test_the_page_shows_the_registry_and_the_process_and_nothing_else_is_there():
    async with numbers.listening(page(), host="127.0.0.1", port=0) as address:
        shown = await fetched(address)
        assert shown.headers["content-type"].startswith("text/plain")
        assert "flowtrack_things_total 3.0" in shown.text
        assert "process_resident_memory_bytes" in shown.text
        assert (await fetched(address, "/")).status_code == 404


async def test_without_a_port_nobody_listens():
    async with numbers.listening(page(), host="127.0.0.1", port=None) as address:
        assert address is None


async def test_a_taken_port_costs_the_numbers_and_not_the_work():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        async with numbers.listening(page(), host="127.0.0.1", port=other.getsockname()[1]) as address:
            assert address is None


async def test_what_has_to_be_read_is_read_before_the_page_is_written():
    asked: list[int] = []

    async def refresh() -> None:
        asked.append(1)

    assert b"flowtrack_things" in await page(before=[refresh]).text()
    assert asked == [1]


async def test_a_core_that_counts_nothing_or_is_gone_adds_nothing():
    assert await numbers.Core(None).numbers() == b""
    assert await numbers.Core("127.0.0.1:1").numbers() == b""


async def test_what_two_registries_count_under_one_name_stands_under_it_once():
    api, worker = CollectorRegistry(), CollectorRegistry()
    for pool, registry in (("requests", api), ("steps", worker)):
        Gauge("flowtrack_connections", "In use", ["pool"], registry=registry).labels(pool).set(1)
    text = (await numbers.Page(api, worker).text()).decode()
    assert text.count("# TYPE flowtrack_connections gauge") == 1
    assert 'flowtrack_connections{pool="requests"} 1.0' in text
    assert 'flowtrack_connections{pool="steps"} 1.0' in text
