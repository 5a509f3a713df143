"""Wakes: what happens to a lead is carried to the runs that wait for it.

Revision ID: 0004
"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCRIPT = Path(__file__).parent.parent / "sql" / "0004_event_wakes.sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(SCRIPT.read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("runs that wait would miss what happens to their lead: restore a backup")
