"""One trace leads from a form's POST to the steps of the run that it ordered."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from local import mail
from telemetry import spans
from telemetry.traces import Traces
from tests.e2e import house as building
from tests.e2e.graphs import chain, node
from tests.e2e.house import House, ok
from tests.e2e.target import Target

pytestmark = pytest.mark.anyio


class Exporter(InMemorySpanExporter):
    """Keeps spans over several providers: each shuts its exporter down with itself."""

    def shutdown(self) -> None:
        """Go on."""


EXPORTER = Exporter()


@pytest.fixture
async def traced_house(
    database_url: str, temporal_address: str, task_queue: str, smtp_catcher: mail.Catcher, target: Target
) -> AsyncIterator[House]:
    """Build the house with everything traced."""
    EXPORTER.clear()
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


async def test_a_run_that_a_dispatcher_starts_has_a_trace_of_its_own(traced_house: House):
    workflow = await traced_house.workflow(drawn())
    path = f"/v1/workflows/{workflow['id']}"
    await ok(traced_house.api.post(f"{path}/pause"))
    run = await traced_house.submit(workflow, {"email": "ada@example.com"})
    await ok(traced_house.api.post(f"{path}/resume"))
    await traced_house.ended(run)
    about = {"temporalWorkflowID": f"execution-{run}"}
    begun = await until(lambda: [span for span in spans_of("StartWorkflow") if span.attributes == about])
    assert begun[0].parent is None
    (step,) = await until(
        lambda: [span for span in spans_of("RunActivity:UTILITY_LOG") if trace_of(span) == trace_of(begun[0])]
    )
    assert step.parent is not None


def spans_of(name: str) -> list[ReadableSpan]:
    return [span for span in EXPORTER.get_finished_spans() if span.name.startswith(name)]


async def until(look: Callable[[], list[ReadableSpan]]) -> list[ReadableSpan]:
    """Wait until some spans are exported."""
    deadline = asyncio.get_running_loop().time() + 30
    while not (found := look()):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.1)
    return found


async def exported(wanted: set[str]) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """Wait until a form's POST and, in its trace, all of these are exported."""

    def found() -> list[ReadableSpan]:
        posts = spans_of("POST /f/{workspace}/{form}")
        ours = [span for span in spans_of("") if posts and trace_of(span) == trace_of(posts[0])]
        return ours if wanted <= {span.name for span in ours} else []

    ours = await until(found)
    return spans_of("POST /f/{workspace}/{form}")[0], ours


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    trace_id: int = span.context.trace_id
    return trace_id
