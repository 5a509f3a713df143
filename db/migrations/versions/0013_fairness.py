"""Plans say which share of a busy worker falls to a workspace.

Revision ID: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SHARES = {"starter": 2, "pro": 5}


def upgrade() -> None:
    op.add_column(
        "subscription_plans", sa.Column("fairness_weight", sa.Double, nullable=False, server_default=sa.text("1"))
    )
    op.create_check_constraint(
        op.f("subscription_plans_fairness_weight_check"),
        "subscription_plans",
        "fairness_weight BETWEEN 0.001 AND 1000",
    )
    # Plans never change: what they promise is as it was, only the new column gets its first value.
    op.execute("ALTER TABLE subscription_plans DISABLE TRIGGER keep_subscription_plans")
    for slug, share in SHARES.items():
        op.execute(f"UPDATE subscription_plans SET fairness_weight = {share} WHERE slug = '{slug}'")
    op.execute("ALTER TABLE subscription_plans ENABLE TRIGGER keep_subscription_plans")


def downgrade() -> None:
    op.drop_column("subscription_plans", "fairness_weight")
