"""What a drawing asks of other workflows is judged by what is known of them."""

from uuid import UUID

import pytest

from tests.workflows.documents import START, draft, node, told
from workflows import callees, validation
from workflows.callees import Neighbours, Other

OWN, OTHER = UUID(int=1), UUID(int=2)
PLACE = "/nodes/1/data/config"


def drawn(workflow_id: UUID | str, **config: object):
    """Draw a workflow that starts another one."""
    call = node("call", "ACTION_START_WORKFLOW", workflowId=str(workflow_id), **config)
    return draft(START, call, edges=("start>call",))


@pytest.mark.parametrize(
    ("known", "code", "severity"),
    [
        (None, "unknown_workflow", "error"),
        (Other("B", "draft", is_published=False), "workflow_not_published", "error"),
        (Other("B", "archived", is_published=True), "workflow_archived", "error"),
        (Other("B", "paused", is_published=True), "workflow_paused", "warning"),
    ],
)
def test_a_workflow_that_starts_no_runs_is_told(known: Other | None, code: str, severity: str):
    neighbours = Neighbours(OWN, {OTHER: known} if known else {})
    found = validation.problems(drawn(OTHER), [], publishing=True, neighbours=neighbours)
    assert (code, f"{PLACE}/workflowId", "call") in told(found)
    (problem,) = [one for one in found if one.code == code]
    assert (problem.severity, bool(problem.remedy), problem.field) == (severity, True, "workflowId")
    eased = validation.problems(drawn(OTHER), [], publishing=False, neighbours=neighbours)
    assert {one.severity for one in eased} == {"warning"}


def test_a_workflow_may_start_itself_but_not_wait_for_it():
    assert list(callees.named(drawn(OWN))) == [OWN]
    for wait, codes in ((False, []), (True, ["waits_for_itself"])):
        found = validation.problems(
            drawn(OWN, wait=wait), [], publishing=True, neighbours=Neighbours(OWN, {})
        )
        assert [one.code for one in found if one.severity == "error"] == codes


def test_what_is_no_id_is_told_where_it_stands():
    found = validation.problems(drawn("{{ trigger.workflow }}"), [], publishing=True)
    assert ("config_invalid", f"{PLACE}/workflowId", "call") in told(found)
    assert callees.named(drawn("{{ trigger.workflow }}")) == callees.named(draft(START)) == set()
