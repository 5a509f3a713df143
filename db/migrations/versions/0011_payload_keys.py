"""A key of each workspace for what Temporal keeps of its runs.

Revision ID: 0011
"""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCRIPT = Path(__file__).parent.parent / "sql" / "payload_keys.sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(SCRIPT.read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("without its keys no history could be read again: restore a backup")
