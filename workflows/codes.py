"""Every code that a graph's problems carry, with its meaning and its remedy, for docs/problems.md."""

from collections.abc import Mapping

from workflows import nodes
from workflows.problems import Code

CODES: Mapping[str, Mapping[str, Code]] = {
    "The document": {
        "bad_characters": Code("A name has control characters or line breaks.", "Remove them."),
        "bad_value": Code(
            "A value cannot be kept: NUL, half a character, an endless number, too deep nesting.",
            "Remove it.",
        ),
        "config_too_large": Code(
            "All configs together are too large.", "Shorten texts, or split the workflow."
        ),
        "duplicate_edge_id": Code("Two edges have one id.", "Give each edge an id of its own."),
        "duplicate_node_id": Code("Two nodes have one id.", "Give each node an id of its own."),
        "extra_too_large": Code("Unknown keys hold too much.", "Leave out what FlowTrack does not know."),
        "graph_too_large": Code(
            "The published graph would be too large to travel to each run.",
            "Split the workflow, or shorten its texts.",
        ),
        "invalid_graph": Code("The document is no object.", "Send `{nodes, edges, viewport}`."),
        "missing": Code("Something that must be there is missing or empty.", "Add it."),
        "self_loop": Code("An edge leads from a node back to itself.", "Connect two different nodes."),
        "too_long": Code("A text is too long.", "Shorten it."),
        "too_many_edges": Code("There are too many edges.", "Split the workflow."),
        "too_many_nodes": Code("There are too many nodes.", "Split the workflow."),
        "wrong_type": Code("A value is of the wrong kind.", "Send what is asked for, or leave it out."),
    },
    "Nodes and their configs": {
        "bad_input_schema": Code(
            "`inputSchema` is no JSON Schema (2020-12), refers to elsewhere or to itself, or is too large.",
            "Mend the schema at the place that is named.",
        ),
        "config_invalid": Code("A setting has a value that it cannot have.", "Set it as the message says."),
        "config_missing": Code("A setting is missing that the node type needs.", "Add it."),
        "config_unknown_key": Code("The node type has no such setting.", "Correct its name, or remove it."),
        "duplicate_save_as": Code(
            "Two steps save their outputs under one name.", "Give one another `saveAs`."
        ),
        "form_without_email": Code(
            "The form asks for no e-mail address, so its submissions make no leads.",
            "Add a form field of the type EMAIL.",
        ),
        "unknown_node_type": Code("There is no such node type.", "Use one of those in nodes.md."),
    },
    "Runs of other workflows": {
        "unknown_workflow": Code("The workspace has no such workflow.", "Choose one that it has."),
        "waits_for_itself": Code(
            "A step waits for a run of its own workflow, which would wait in turn.", "Do not wait for it."
        ),
        "workflow_archived": Code("The workflow to be started is archived.", "Resume it, or choose another."),
        "workflow_not_published": Code(
            "The workflow to be started was never published.", "Publish it first."
        ),
        "workflow_paused": Code("The workflow to be started is paused.", "Resume it."),
    },
    "Links": {
        "link_not_sent": Code(
            "A link stands where others than its addressee could read it.",
            "Use it in the text of a mail or in a request.",
        ),
        "no_approval_ahead": Code(
            "A link approves or rejects, and no approval follows that the same loop runs.",
            "Connect the node to a LOGIC_APPROVAL, or leave the link out.",
        ),
        "several_approvals_ahead": Code(
            "A link could lead to any of several approvals.",
            "Let one approval come first, or name its approvers.",
        ),
    },
    "Loops": {
        "bad_target": Code("A jump goes to the trigger or to itself.", "Name a node between them."),
        "empty_loop": Code("Nothing leaves a loop by `each`.", "Connect the handle `each`."),
        "handle_needed": Code(
            "An edge does not say by which handle it leaves a loop's node.", "Let it leave by one by name."
        ),
        "jump_over_border": Code(
            "A jump and its target stand in different loops.", "Name a node of the same loop."
        ),
        "loop_entered_sideways": Code(
            "An edge leads from outside into a loop, past its entry.", "Enter the loop where it begins."
        ),
        "loops_cross": Code(
            "Two loops share nodes, and neither is inside the other.",
            "Let branches meet before one LOGIC_GOTO, or keep the loops apart.",
        ),
        "loops_too_large": Code(
            "Loops around each other may run a step too often to be counted.", "Lower their limits."
        ),
        "rule_on_loop_edge": Code(
            "A rule stands on an edge into or back to a loop, where nobody weighs it.",
            "Put a LOGIC_CONDITION into the loop.",
        ),
        "target_not_upstream": Code(
            "No path leads from a jump's target to the jump.", "Name a node that leads there."
        ),
        "unknown_target": Code("A jump's target is no node that runs.", "Name one."),
        "wrong_way_back": Code(
            "An edge draws a jump to another node than its target.", "Connect it to the target, or remove it."
        ),
    },
    "The shape of the graph": {
        "cycle": Code("Nodes run in a circle.", "Remove one of the edges between them."),
        "dangling_edge": Code("An edge begins or ends nowhere.", "Remove it, or connect it to a node."),
        "edge_into_trigger": Code("An edge leads into the trigger, where runs begin.", "Remove the edge."),
        "edge_to_note": Code("An edge touches a note, which never runs.", "Remove the edge."),
        "join_never_runs": Code(
            "A node waits for branches that no run takes together.",
            "Let it go on with `any_live`, or change what leads to it.",
        ),
        "no_error_edge": Code(
            "A node goes on by `error` when it fails, and no edge leaves by it.",
            "Connect the handle `error`, or choose another `onError`.",
        ),
        "no_trigger": Code("The workflow has no trigger.", "Add one, such as TRIGGER_FORM."),
        "no_way_out": Code("An edge leaves a node that ends its branch.", "Remove the edge."),
        "rule_of_disabled_node": Code(
            "A rule stands on an edge whose node is disabled, so nobody weighs it.",
            "Enable the node, or take the rule off.",
        ),
        "two_triggers": Code(
            "The workflow has several triggers.", "Keep one, and make another workflow for the other."
        ),
        "unknown_handle": Code("An edge leaves by a handle that its node does not have.", "Use one it has."),
        "unreachable": Code("No path leads from the trigger to a node.", "Connect it, or remove it."),
        "unused_error_edge": Code(
            "An edge leaves by `error`, and the node's `onError` never goes that way.",
            "Set its `onError` to `branch`.",
        ),
    },
    "Rules": {
        "empty_group": Code("A group has no rules.", "Add a rule, or remove the group."),
        "invalid_field": Code("A field is no dotted path.", "Write it like `trigger.budget`."),
        "invalid_group": Code(
            "A group is not one key with a list of rules.", "Write `all`, `any` or `none` alone."
        ),
        "invalid_pattern": Code(
            "A regular expression cannot be used.", "Correct it; it may not look around or back."
        ),
        "invalid_rule": Code("A rule is no object.", 'Write `{"field", "operator", "value"}`.'),
        "missing_field": Code("A rule has no field.", "Name one, such as `lead.email`."),
        "missing_operator": Code("A rule has no operator.", "Add one, such as `equals`."),
        "operator_mismatch": Code(
            "An operator asks for another kind of value than its field holds, so it never holds.",
            "Choose another operator, or another field.",
        ),
        "rule_too_deep": Code("Groups are nested too deeply.", "Nest them less deeply."),
        "too_many_rules": Code("A condition has too many rules.", "Split it over several nodes."),
        "unknown_field": Code("A field is neither the form's nor the lead's.", "Correct its name."),
        "unknown_key": Code("A rule has a key that rules do not have.", "Remove it."),
        "unknown_operator": Code("There is no such operator.", "Use one of those that are listed."),
        "wrong_value": Code(
            "A rule's value is not what its operator takes.", "Write what the operator takes."
        ),
    },
    "Templates": {
        "loop_over_no_list": Code(
            "A loop goes over what is no list.", "Loop over a list, or print the value."
        ),
        "template_failed": Code("A template cannot be analysed.", "Write it more simply."),
        "template_limit": Code("A template nests or repeats too much.", "Write it more simply."),
        "template_syntax": Code(
            "A template cannot be read.", "Correct it at the line and column that are told."
        ),
        "template_too_large": Code("A template is too long.", "Shorten it, or split it."),
        "template_unknown_filter": Code("There is no such filter.", "Use one of Liquid's, or of ours."),
        "template_unknown_variable": Code(
            "A name stands in no scope.",
            "Begin it with `lead.`, `trigger.`, `steps.`, `vars.` or another scope.",
        ),
    },
    "What templates and rules name": {
        "no_lead": Code(
            "What starts the run brings no lead, and a node needs one or prints it.",
            "Have the trigger bring one (`leadQuery`, `emailPath`), or start the run by hand with a lead.",
        ),
        "not_in_loop": Code(
            "A template or rule names a loop's item where no LOGIC_FOR_EACH runs the node.",
            "Move it behind the handle `each` of one.",
        ),
        "not_an_object": Code("A path goes on inside a text, a number or a list.", "Use the value itself."),
        "step_disabled": Code(
            "The output of a disabled step is printed.", "Enable the step, or add `| default: …`."
        ),
        "step_may_be_skipped": Code(
            "The output of a step is printed that not every run here has taken.",
            "Add `| default: …`, or use it where the step has run for certain.",
        ),
        "step_not_upstream": Code(
            "A step's output is named where the step cannot have run.",
            "Name a step that leads here, or connect it.",
        ),
        "unknown_form_field": Code("The form has no such field.", "Correct its name, or add the field."),
        "unknown_output_field": Code(
            "The step's output has no such field.", "Use one that it has (nodes.md)."
        ),
        "unknown_reference": Code(
            "The scope has nothing of this name.", "Use one of the names that are listed."
        ),
        "unknown_step": Code("No step saves its output under this name.", "Use a node's id or its `saveAs`."),
        "unknown_trigger_field": Code(
            "What starts the run has no such field; a warning where a run by hand might bring it.",
            "Use one that it has.",
        ),
        "unknown_variable": Code("No step sets this variable.", "Set it with UTILITY_SET_VARIABLES."),
        "variable_not_upstream": Code(
            "A variable is set by a step that does not lead here.", "Set it in a step that leads here."
        ),
    },
}
"""By what they are about; what only one node type can say stands with the type (`NodeType.codes`)."""

INTRO = """# Problems of a graph

Made from `workflows/codes.py` and the node types by `make docs`; a test keeps it equal.

Saving a draft, checking it and publishing it tell what is wrong with it: each problem has one of these
codes, a message, a remedy, the node's id and a JSON pointer to its place in the document. An `error` stands
in the way of publishing, a `warning` does not. Saving refuses only what is listed under *The document* (but
for a graph too large to travel), and `unknown_node_type`.
"""


def every() -> Mapping[str, Code]:
    """Return all codes."""
    return {code: told for section in sections().values() for code, told in section.items()}


def remedy(code: str) -> str:
    """Say what to do about a problem that does not say so itself."""
    return next(section[code].remedy for section in CODES.values() if code in section)


def sections() -> Mapping[str, Mapping[str, Code]]:
    """Return the codes by what they are about."""
    own = {t.name: t.codes for t in nodes.types().values() if t.codes}
    return {**CODES, **own}


def page() -> str:
    """Write all codes as Markdown."""
    return "\n".join([INTRO, *(_section(title, codes) for title, codes in sections().items())])


def _section(title: str, codes: Mapping[str, Code]) -> str:
    rows = [f"| `{code}` | {told.meaning} | {told.remedy} |" for code, told in sorted(codes.items())]
    return "\n".join([f"## {title}", "", "| Code | Meaning | Remedy |", "| --- | --- | --- |", *rows, ""])


if __name__ == "__main__":
    print(page(), end="")
