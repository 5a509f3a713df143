"""The numbers of a house that works, and of the two processes as they are really started."""

import base64
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest

from local import ports
from tests.e2e.graphs import chain, node
from tests.e2e.house import MASTER_KEY, House

pytestmark = pytest.mark.anyio

NAME = re.compile(r"^(?:# TYPE )(\S+) (\S+)", re.MULTILINE)


def values(house: House) -> dict[str, float]:
    registries = (house.application.state.platform.metrics.registry, house.world.metrics.registry)
    lines = "".join(generate_latest(each).decode() for each in registries).splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


async def test_a_run_is_counted_from_its_post_to_its_rows(house: House):
    endpoint = {"url": house.target.url, "subscribed_events": ["*"]}
    await house.api.post("/v1/webhook-endpoints", json=endpoint)
    drawn = chain(
        node("start", "TRIGGER_FORM"),
        node("tell", "ACTION_DELIVER_WEBHOOK", eventType="lead.told", waitForDelivery=True),
    )
    workflow = await house.workflow(drawn)
    await house.ended(await house.submit(workflow, {"email": "ada@example.com"}))
    found = values(house)
    assert found['flowtrack_form_submissions_total{replayed="false"}'] == 1
    assert found['flowtrack_starts_total{outcome="started"}'] == 1
    assert found["flowtrack_mirror_lag_seconds_count"] >= 1
    assert found['flowtrack_mirror_looks_total{found="advanced"}'] >= 1
    assert found['flowtrack_webhook_deliveries_total{outcome="delivered"}'] == 1
    posted = 'flowtrack_http_request_seconds_count{method="POST",route="/f/{workspace}/{form}",status="202"}'
    assert found[posted] == 1


async def test_a_refused_quota_is_counted(house: House):
    workflow = await house.workflow(
        chain(node("start", "TRIGGER_FORM"), node("note", "UTILITY_LOG", message="on"))
    )
    await house.rows("UPDATE usage_quotas SET quota_limit = 0 WHERE quota_key = 'executions' RETURNING 1")
    run = await house.ended(await house.submit(workflow, {"email": "ada@example.com"}))
    assert run["status_reason"] == "quota_exceeded"
    assert values(house)['flowtrack_quota_refusals_total{activity="begin"}'] == 1


@contextmanager
def process(verb: str, output: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a verb as people do."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOWTRACK_")}
    given = {f"FLOWTRACK_{name}": value for name, value in variables.items()}
    with output.open("wb") as out:
        command = [sys.executable, "-m", "flowtrack", verb]
        running = subprocess.Popen(command, env={**environment, **given}, stdout=out, stderr=out)
    try:
        yield running
    finally:
        running.terminate()
        running.wait(60)


def scraped(port: int, running: subprocess.Popen[bytes], output: Path, *, until: str) -> str:
    """Ask for the page until it shows something."""
    deadline, shown = time.monotonic() + 60, ""
    while until not in shown:
        assert running.poll() is None, output.read_text()
        assert time.monotonic() < deadline, shown or output.read_text()
        time.sleep(0.1)
        try:
            shown = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        except httpx.TransportError:
            continue
    return shown


OURS: dict[str, tuple[str, ...]] = {
    "api": ("flowtrack_executions_open", "flowtrack_outbox_rows", "flowtrack_mirror_lag_seconds"),
    "worker": ("flowtrack_webhook_deliveries_total", "flowtrack_quota_refusals_total"),
}


@pytest.mark.parametrize("verb", OURS)
def test_a_process_shows_its_numbers_and_the_sdks_where_only_this_machine_reads_them(
    verb: str, database_url: str, temporal_address: str, tmp_path: Path
):
    port, output = ports.free(), tmp_path / "out"
    given: dict[str, Any] = {
        "DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": temporal_address,
        "MASTER_KEY": base64.b64encode(MASTER_KEY).decode(),
        "API_PORT": str(ports.free()),
        "METRICS_PORT": str(port),
    }
    with process(verb, output, **given) as running:
        shown = scraped(port, running, output, until="temporal_request")
    assert all(name in shown for name in OURS[verb])
    assert 'flowtrack_database_connections{pool="' in shown
    types = dict(NAME.findall(shown))
    assert all(name.startswith(("flowtrack_", "temporal_", "process_", "python_")) for name in types)
    assert [
        n
        for n, kind in types.items()
        if kind == "counter" and n.startswith("flowtrack") and not n.endswith("_total")
    ] == []
    assert len(NAME.findall(shown)) == len(types), "each family stands there once"
