"""Plans, subscriptions, quotas and usage (ERD §16-19)."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import (
    Base,
    Created,
    Keyed,
    Tenant,
    Timestamps,
    door_index,
    indexed,
    json_column,
    number,
    of_workspace,
    one_of,
    unique,
)

CURRENT_STATUSES = ("trial", "active", "past_due")
SUBSCRIPTION_STATUSES = ("trial", "active", "past_due", "cancelled", "expired")
QUOTA_KEYS = ("workflows", "leads", "executions", "email_sends")
EVENT_CATEGORIES = ("compute", "communication", "storage", "api")


class SubscriptionPlan(Keyed, Created, Base):
    """A plan, never changed: a new price or quota is a new version, and the old one is retired."""

    __tablename__ = "subscription_plans"
    __table_args__ = (
        UniqueConstraint("slug", "version", name="slug_version"),
        CheckConstraint("version > 0", name="version"),
        CheckConstraint("price_monthly_cents >= 0 AND price_yearly_cents >= 0", name="price"),
        CheckConstraint("fairness_weight BETWEEN 0.001 AND 1000", name="fairness_weight"),
    )

    name: Mapped[str]
    slug: Mapped[str]
    version: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    price_monthly_cents: Mapped[int] = number()
    price_yearly_cents: Mapped[int] = number()
    currency: Mapped[str] = mapped_column(default="usd", server_default=text("'usd'"))
    stripe_price_monthly_id: Mapped[str | None]
    stripe_price_yearly_id: Mapped[str | None]
    quotas: Mapped[dict[str, Any]] = json_column()
    features: Mapped[dict[str, Any]] = json_column()
    fairness_weight: Mapped[float] = mapped_column(Double, default=1, server_default=text("1"))
    """The share of a busy worker that falls to a workspace beside others (ADR 0022)."""
    retired_at: Mapped[datetime | None]


class Subscription(Tenant, Timestamps, Base):
    """A workspace's plan, now or once; at most one is current."""

    __tablename__ = "subscriptions"
    __table_args__ = (
        of_workspace(),
        one_of("status", SUBSCRIPTION_STATUSES),
        one_of("billing_cycle", ("monthly", "yearly")),
        CheckConstraint("current_period_end > current_period_start", name="current_period"),
        indexed(
            "subscriptions_one_current", where="status IN ('trial', 'active', 'past_due')", is_unique=True
        ),
        indexed("subscriptions_created_at", "created_at"),
        door_index("door_subscriptions_plan", "subscription_plan_id"),
        door_index(
            "door_subscriptions_stripe",
            "stripe_subscription_id",
            where="stripe_subscription_id IS NOT NULL",
            is_unique=True,
        ),
        door_index(
            "door_subscriptions_customer", "stripe_customer_id", where="stripe_customer_id IS NOT NULL"
        ),
    )

    subscription_plan_id: Mapped[UUID] = mapped_column(
        ForeignKey("subscription_plans.id", name="subscription_plan_id", ondelete="RESTRICT")
    )
    stripe_subscription_id: Mapped[str | None]
    stripe_customer_id: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="active", server_default=text("'active'"))
    billing_cycle: Mapped[str] = mapped_column(default="monthly", server_default=text("'monthly'"))
    current_period_start: Mapped[datetime]
    current_period_end: Mapped[datetime]
    trial_ends_at: Mapped[datetime | None]
    cancel_at_period_end: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    cancelled_at: Mapped[datetime | None]


class UsageQuota(Tenant, Timestamps, Base):
    """What a workspace may use and has used in one period; both dates belong to it.

    A limit of NULL is no limit. `anchor_day` keeps a month that began on the 31st from drifting.
    """

    __tablename__ = "usage_quotas"
    __table_args__ = (
        of_workspace(),
        unique("period_start", "quota_key", "period_start"),
        one_of("quota_key", QUOTA_KEYS),
        CheckConstraint("quota_limit BETWEEN 0 AND 1000000000000000", name="quota_limit"),
        CheckConstraint("quota_used >= 0", name="quota_used"),
        CheckConstraint("period_end >= period_start", name="period"),
        CheckConstraint("anchor_day BETWEEN 1 AND 31", name="anchor_day"),
        door_index("door_usage_quotas_period_end", "period_end"),
    )

    quota_key: Mapped[str]
    quota_limit: Mapped[int | None] = mapped_column(BigInteger)
    quota_used: Mapped[int] = number()
    period_start: Mapped[date]
    period_end: Mapped[date]
    anchor_day: Mapped[int] = mapped_column(SmallInteger)


class UsageEvent(Tenant, Created, Base):
    """One thing used, for billing to reconcile."""

    __tablename__ = "usage_events"
    __table_args__ = (
        of_workspace(),
        one_of("event_category", EVENT_CATEGORIES),
        CheckConstraint("quantity >= 0", name="quantity"),
        indexed("usage_events_event_type", "event_type"),
    )

    event_type: Mapped[str]
    event_category: Mapped[str]
    quantity: Mapped[int] = number(1)
    related_resource_type: Mapped[str | None]
    related_resource_id: Mapped[str | None]
    is_billable: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    event_metadata: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JSONB, default=dict, server_default=text("'{}'::jsonb")
    )
