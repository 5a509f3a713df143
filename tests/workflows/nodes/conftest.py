"""How a node's pure decision is asked for."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from workflows.messages import EdgeRule, Outcome
from workflows.nodetype import NodeType, Situation

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""A Monday."""

Decide = Callable[..., Outcome]


@pytest.fixture
def decide() -> Decide:
    """Decide a node as its activity does."""

    def ask(
        node_type: type[NodeType],
        config: dict[str, Any],
        *,
        scope: dict[str, Any] | None = None,
        now: datetime = NOW,
        zone: str = "UTC",
        edges: tuple[EdgeRule, ...] = (),
    ) -> Outcome:
        situation = Situation(node_type.Config.model_validate(config), scope or {}, now, zone, edges)
        return node_type.decide(situation)

    return ask
