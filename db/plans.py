"""What a workspace's current plan grants beside its quotas, as parts of statements that are made anyway."""

from uuid import UUID

from sqlalchemy import ScalarSelect, select

from db.models import Subscription, SubscriptionPlan
from db.models.billing import CURRENT_STATUSES

PLAN = f"""(
    SELECT s.subscription_plan_id FROM subscriptions s
    WHERE s.workspace_id = f.workspace_id AND s.status IN {CURRENT_STATUSES})
"""
"""The plan of the workspace of `f`."""
WEIGHT = f"coalesce((SELECT p.fairness_weight FROM subscription_plans p WHERE p.id = {PLAN}), 1)"
"""How much of a busy worker falls to it beside the others (ADR 0022); without a plan it is one share."""


def weight(workspace_id: UUID) -> ScalarSelect[float]:
    """Select a workspace's share, NULL without a plan."""
    return (
        select(SubscriptionPlan.fairness_weight)
        .join(Subscription, Subscription.subscription_plan_id == SubscriptionPlan.id)
        .where(
            Subscription.workspace_id == workspace_id,
            Subscription.status.in_(CURRENT_STATUSES),
        )
        .scalar_subquery()
    )
