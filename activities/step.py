"""One visit of one node, made ready: config rendered, scope complete, keys for its effects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from activities import links
from activities.errors import StepFailed
from db.effects import EffectKey
from workflows import conditions, nodes, templates
from workflows.graph import step_key
from workflows.messages import EdgeRule, Scope, StepInput
from workflows.nodetype import Marker, NodeConfig, NodeType, Situation, marked_values, replaced
from workflows.scopes import pick


@dataclass(frozen=True)
class Step:
    """What an effect is given."""

    given: StepInput
    config: Any
    """The node's Config with every template rendered."""
    scope: Scope
    now: datetime
    zone: str
    links: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What its templates named of `links`: secrets of whom they are sent to."""
    told: Any = None
    """The config as it may be remembered, where links stand in it."""

    @property
    def workspace_id(self) -> UUID:
        """The tenant; row-level security holds the step inside it."""
        return self.given.workspace_id

    @property
    def lead_id(self) -> UUID:
        """The run's lead, which this node cannot do without."""
        if self.given.lead_id is None:
            raise StepFailed("no_lead", "This node needs a lead and the run has none.")
        return self.given.lead_id

    def effect(self, name: str) -> EffectKey:
        """Name an effect of this step; the key outlives retries, crashes and resets (design §6)."""
        return EffectKey(
            workspace_id=self.given.workspace_id,
            execution_id=self.given.execution_id,
            node_id=self.given.node.id,
            visit=self.given.visit,
            effect=name,
        )

    def situation(self) -> Situation:
        """Show a pure decision what it may look at."""
        given = self.given
        return Situation(
            self.config,
            self.scope,
            self.now,
            self.zone,
            edges=given.edges,
            ids=ids_of(given),
            key=step_key(given.node.id, given.visit),
            heard=given.heard,
            entered_at=given.entered_at,
            visit=given.visit,
        )

    def conditions(self, output: Any) -> dict[str, bool]:
        """Weigh the rules on the outgoing edges; they may name this step's own output."""
        steps = {**self.scope.get("steps", {}), self.given.node.save_as: output}
        scope = {**self.scope, "steps": steps}
        return {edge.edge_id: self._holds(edge, scope) for edge in self.given.edges}

    def _holds(self, edge: EdgeRule, scope: Scope) -> bool:
        try:
            return conditions.evaluate(edge.rule, scope, now=self.now, zone=self.zone).holds
        except conditions.ConditionError as error:
            raise StepFailed("bad_condition", f"edge {edge.edge_id}: {error}") from error

    @property
    def shown(self) -> dict[str, Any]:
        """Dump what this type of node was configured with, as the step records it."""
        told = self.config if self.told is None else self.told
        return nodes.types()[self.given.node.type].recorded(told)


def ids_of(given: StepInput) -> dict[str, str]:
    """Name whom and what a decision is made for."""
    found = {"workflow": given.workflow_id, "execution": given.execution_id, "lead": given.lead_id}
    return {"node": given.node.id, **{name: str(value) for name, value in found.items() if value}}


def prepare(
    node_type: type[NodeType],
    given: StepInput,
    *,
    lead: Mapping[str, Any] | None,
    now: datetime,
    written: Mapping[str, str] | None = None,
) -> Step:
    """Render a node's config against the scope and its links; raises StepFailed naming the field.

    What is remembered is rendered with placeholders: a filter may have changed a link beyond recognition.
    """
    scope = given.scope if lead is None else {**given.scope, **pick({"lead": lead}, given.node.reads)}
    zone = str((lead or {}).get("timezone") or given.zone)

    def configured(with_links: Mapping[str, str]) -> NodeConfig:
        seen = {**scope, "links": with_links} if with_links else scope
        raw = given.node.config
        for path, marker, value in marked_values(node_type.Config, raw):
            if marker.kind != "rule":
                name = ".".join(map(str, path))
                raw = replaced(raw, path, _render(name, value, marker, scope=seen, now=now, zone=zone))
        return _validated(node_type, raw)

    if not written:
        return Step(given, configured({}), scope, now, zone)
    told = configured(links.placeholders(written))
    return Step(given, configured(written), scope, now, zone, written, told)


def _render(name: str, value: Any, marker: Marker, *, scope: Scope, now: datetime, zone: str) -> Any:
    try:
        if marker.kind == "data":
            return templates.render_value(value, scope, now=now, zone=zone)
        return _texts(value, scope, html=marker.kind == "html", now=now, zone=zone)
    except templates.TemplateError as error:
        if marker.may_miss and error.code == "template_missing_value":
            return None
        raise StepFailed("template_error", f"{name}: {error.message}") from error


def _texts(value: Any, scope: Scope, *, html: bool, now: datetime, zone: str) -> Any:
    """Render a template, or each of a list or an object of them."""
    if isinstance(value, Mapping):
        return {key: _texts(item, scope, html=html, now=now, zone=zone) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item, scope, html=html, now=now, zone=zone) for item in value]
    return templates.render(value, scope, html=html, now=now, zone=zone) if isinstance(value, str) else value


def _validated(node_type: type[NodeType], raw: dict[str, Any]) -> NodeConfig:
    try:
        return node_type.Config.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StepFailed("bad_config", f"{where}: {first['msg']}") from error
