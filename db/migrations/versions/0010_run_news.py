"""News of runs: a trigger tells those who listen which execution changed.

Revision ID: 0010
"""

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCRIPT = Path(__file__).parent.parent / "sql" / "0010_run_news.sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(SCRIPT.read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute("DROP TRIGGER tell_run_made ON workflow_executions")
    op.execute("DROP TRIGGER tell_run_changed ON workflow_executions")
    op.execute("DROP FUNCTION tell_run_news")
