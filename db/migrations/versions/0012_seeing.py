"""What operators see: counts for metrics, and open runs that may be stuck.

Revision ID: 0012
"""

from pathlib import Path

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SCRIPT = Path(__file__).parent.parent / "sql" / "0012_seeing.sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(SCRIPT.read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute("DROP FUNCTION door_measures(interval), door_suspects(interval, timestamptz, uuid, integer)")
    op.execute("DROP INDEX door_effects_in_doubt")
