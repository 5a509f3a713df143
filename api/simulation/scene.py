"""The scene of a simulation: the graph, the imagined lead and the script that its run begins with."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from api import errors, submissions
from api.schemas import JsonObject
from api.simulation.given import SimulationGiven, StubGiven, detail, key_of, wrong_events, wrong_stubs
from api.simulation.script import Scripted
from db import fields, graphs, starts, versions
from workflows import nodes, publish, simulation, validation
from workflows.fields import Field as FormField
from workflows.fields import check
from workflows.graph import Graph, Node
from workflows.messages import ExecutionInput, StepError
from workflows.simulation import Plan, Stub

LARGEST = 512 * 1024
"""Bytes of a request: most of it travels with the run, as what Temporal takes in one piece."""


class Scene(BaseModel):
    """Everything that a simulation begins with."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    given: ExecutionInput
    plan: Plan
    script: list[Scripted]


async def read(session: AsyncSession, workspace_id: UUID, workflow_id: UUID, body: SimulationGiven) -> Scene:
    """Read what is simulated; whatever is wrong with the request is said before anything runs."""
    if len(body.model_dump_json()) > LARGEST:
        raise _invalid("", "too_large", f"A simulation has at most {LARGEST} bytes as JSON.")
    facts = await starts.facts(session, workspace_id, workflow_id)
    if facts is None:
        raise errors.NotFound()
    form = await fields.form(session, workspace_id, workflow_id)
    graph, number = await _graph(session, workspace_id, workflow_id, body, form)
    trigger = versions.trigger_of(graph)
    if trigger is None:
        raise errors.Invalid("The graph has no trigger.")
    now = datetime.now(UTC)
    trigger_data, imagined = _about(body, form, trigger)
    _refuse([*wrong_stubs(body, graph), *wrong_events(body, graph, now)])
    execution_id, lead_id = uuid7(), uuid7()
    lead = imagined and simulation.lead_scope(
        imagined, id_=str(lead_id), workflow_id=str(workflow_id), now=now
    )
    given = ExecutionInput(
        workspace_id=workspace_id,
        workflow_id=workflow_id,
        execution_id=execution_id,
        version=number,
        trigger_type=trigger.type.removeprefix("TRIGGER_"),
        trigger_node_id=trigger.id,
        trigger_data=trigger_data,
        lead_id=lead_id if lead else None,
        graph=graph,
        holds_failures=facts.holds_failures,
    )
    plan = Plan(
        workspace=facts.workspace,
        workflow=facts.workflow,
        lead=lead or None,
        stubs={node_id: _stub(stub) for node_id, stub in body.stubs.items()},
        fields=form,
        changes={str(number): event.lead for number, event in enumerate(body.events) if event.lead},
    )
    return Scene(given=given, plan=plan, script=_script(body, graph, now))


async def _graph(
    session: AsyncSession,
    workspace_id: UUID,
    workflow_id: UUID,
    body: SimulationGiven,
    form: tuple[FormField, ...],
) -> tuple[Graph, int]:
    if isinstance(body.version, int):
        version = await versions.get(session, workspace_id, workflow_id, body.version)
        if version is None:
            raise _invalid("/version", "unknown_version", "The workflow has no such version.")
        return _readable(version.graph), version.version
    loaded = await graphs.load(session, workspace_id, workflow_id)
    if loaded is None:
        raise errors.NotFound()
    found = validation.problems(loaded.draft, form, publishing=True)
    wrong = [problem for problem in found if problem.severity == "error"]
    if wrong:
        raise errors.Invalid("The draft cannot run yet.", errors=submissions.details(wrong))
    return publish.compile(loaded.draft), 0


def _readable(drawn: Mapping[str, Any]) -> Graph:
    """Read a version's graph; raises GraphUnreadable for what another release published."""
    try:
        graph = Graph.model_validate(drawn)
        for node in graph.nodes:
            nodes.types()[node.type].Config(**node.config)
    except (ValidationError, KeyError) as error:
        raise errors.GraphUnreadable() from error
    return graph


def _about(
    body: SimulationGiven, form: tuple[FormField, ...], trigger: Node
) -> tuple[JsonObject, dict[str, Any] | None]:
    """Return the trigger's data and the lead: a form makes both from its answers, unless told otherwise."""
    if "lead" in body.model_fields_set or trigger.type != "TRIGGER_FORM":
        return body.trigger_data, body.lead.model_dump() if body.lead else None
    answers = check(form, body.trigger_data)
    _refuse(
        [
            errors.Detail(
                code=p.code, message=p.message, pointer=f"/trigger_data{p.pointer or ''}", field=p.field
            )
            for p in answers.problems
        ]
    )
    columns = submissions.lead_columns(form, answers.values)
    lead = {**columns, "source": "form", "fields": answers.values} if "email" in columns else None
    return answers.typed, lead


def _script(body: SimulationGiven, graph: Graph, now: datetime) -> list[Scripted]:
    script = []
    for number, event in enumerate(body.events):
        after = simulation.offset_in(event.at, now)
        if after is not None:
            made = Scripted(str(number), after, event.type, event.data, key_of(event.step, graph) or "")
            script.append(Scripted(**{**vars(made), "by": event.by, "comment": event.comment}))
    return script


def _stub(given: StubGiven) -> Stub:
    error = StepError(**given.error.model_dump()) if given.error else None
    return Stub(output=given.output, handle=given.handle, error=error)


def _refuse(wrong: list[errors.Detail]) -> None:
    if wrong:
        raise errors.Invalid("The simulation has mistakes.", errors=wrong)


def _invalid(pointer: str, code: str, message: str) -> errors.Invalid:
    return errors.Invalid(message, errors=[detail(pointer, code, message)])
