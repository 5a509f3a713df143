"""What a run keeps weighs less: narrower keys, indexes with readers only, nothing kept twice (ADR 0024).

Revision ID: 0015
"""

from pathlib import Path

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SCRIPT = Path(__file__).parent.parent / "sql" / "0015_lean_kept.sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(SCRIPT.read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("times that are gone cannot come back: restore a backup")
