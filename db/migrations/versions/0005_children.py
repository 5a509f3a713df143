"""Runs that a step of another run starts and may wait for.

Revision ID: 0005
"""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCRIPT = Path(__file__).parent.parent / "sql" / "children.sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(SCRIPT.read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("runs that wait for runs would wait for ever: restore a backup")
