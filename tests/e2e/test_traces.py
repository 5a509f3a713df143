"""One trace leads from a form's POST to the steps of the run that it ordered."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from local import mail
from telemetry import spans
from telemetry.traces import Traces
from tests.e2e import house as building
from tests.e2e.graphs import chain, node
from tests.e2e.house import House
from tests.e2e.target import Target

pytestmark = pytest.mark.anyio


EXPORTER = InMemorySpanExporter()


@pytest.fixture
async def traced_house(
    database_url: str, temporal_address: str, task_queue: str, smtp_catcher: mail.Catcher, target: Target
) -> AsyncIterator[House]:
    """Build the house with everything traced; what is still to be exported is so when it is torn down."""
    with spans.made(EXPORTER, service="test") as (tracer, interceptor):
        places = (database_url, temporal_address, task_queue, smtp_catcher, target)
        async with building.built(*places, traced=Traces(tracer, interceptor)) as house:
            yield house
            await house.expect_rebuildable()


def drawn() -> dict[str, Any]:
    url = "http://127.0.0.1:9/{{ lead.email }}"
    return chain(
        node("start", "TRIGGER_FORM"),
        node("note", "UTILITY_LOG", message="{{ lead.email }} is here"),
        node("call", "ACTION_HTTP_REQUEST", method="GET", url=url, retry={"maxAttempts": 1}),
    )


async def test_a_trace_spans_post_start_and_steps_and_tells_nothing_of_people(traced_house: House):
    workflow = await traced_house.workflow(drawn())
    run = await traced_house.submit(workflow, {"email": "ada@example.com"})
    await traced_house.ended(run)
    wanted = {"StartWorkflow:ExecutionWorkflow", "RunActivity:UTILITY_LOG", "RunActivity:ACTION_HTTP_REQUEST"}
    post, ours = await exported(wanted)
    (start,) = [span for span in ours if span.name.startswith("StartWorkflow")]
    assert start.parent is not None
    assert post.context is not None
    assert start.parent.span_id == post.context.span_id
    assert start.attributes == {"temporalWorkflowID": f"execution-{run}"}
    assert post.attributes is not None
    assert post.attributes["http.response.status_code"] == 202
    (call,) = [span for span in ours if span.name == "RunActivity:ACTION_HTTP_REQUEST"]
    assert not call.status.is_ok
    assert [event.attributes for event in call.events if event.attributes and len(event.attributes) > 1] == []
    told = "".join(span.to_json() for span in EXPORTER.get_finished_spans())
    assert "ada@example.com" not in told
    assert "acme" not in told


async def exported(wanted: set[str]) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """Wait until a form's POST and, in its trace, all of these are exported."""
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        found = EXPORTER.get_finished_spans()
        posts = [span for span in found if span.name == "POST /f/{workspace}/{form}"]
        ours = [span for span in found if posts and trace_of(span) == trace_of(posts[0])]
        if wanted <= {span.name for span in ours}:
            return posts[0], ours
        assert asyncio.get_running_loop().time() < deadline, [span.name for span in found]
        await asyncio.sleep(0.1)


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    trace_id: int = span.context.trace_id
    return trace_id
