"""Runs of runs, and cancels that are carried out later: what a rerun keeps, when a cancel was asked for.

Revision ID: 0003
"""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCRIPT = Path(__file__).parent.parent / "sql" / "0003_reruns.sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(SCRIPT.read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("orders that wait in these columns would be lost")
