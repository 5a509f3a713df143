"""What a run keeps weighs less: rows that are known by their key, bodies kept once, smaller indexes.

Revision ID: 0007
"""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCRIPT = Path(__file__).parent.parent / "sql" / "0007_lean_runs.sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(SCRIPT.read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("ids that are gone cannot come back: restore a backup")
