"""Room outside Temporal for payloads that are too large for its histories.

Revision ID: 0014
"""

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SCRIPT = Path(__file__).parent.parent / "sql" / "0014_payload_blobs.sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(SCRIPT.read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("histories name what lies there, and no run could go on without: restore a backup")
