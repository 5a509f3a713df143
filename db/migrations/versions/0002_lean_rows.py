"""Rows that are known by what they are about carry no id beside it; indexes without a reader go.

Revision ID: 0002
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCRIPT = Path(__file__).parent.parent / "sql" / "0002_lean_rows.sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(SCRIPT.read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("ids that are gone cannot come back: restore a backup")
