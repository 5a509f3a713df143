"""Claims lock rows no stronger than their updates need, so that what refers to the rows is written meanwhile.

Revision ID: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# FOR UPDATE would wait for, and hold up, whoever writes a row that refers to one of these.
CLAIMS = {
    "door_claim_queued(integer, text, interval)": "OF e SKIP LOCKED",
    "door_claim_cancels(integer, interval)": "SKIP LOCKED",
}


def upgrade() -> None:
    _relock("FOR UPDATE", "FOR NO KEY UPDATE")


def downgrade() -> None:
    _relock("FOR NO KEY UPDATE", "FOR UPDATE")


def _relock(old: str, new: str) -> None:
    for name, rest in CLAIMS.items():
        definition = op.get_bind().exec_driver_sql(f"SELECT pg_get_functiondef('{name}'::regprocedure)").scalar()
        assert definition is not None
        assert f"{old} {rest}" in definition
        op.get_bind().execution_options(no_parameters=True).exec_driver_sql(
            definition.replace(f"{old} {rest}", f"{new} {rest}")
        )
