"""The whole model: tables by ERD section, triggers, policies and grants, doors, quota periods, log partitions.

Revision ID: 0001
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCRIPTS = Path(__file__).parent.parent / "sql" / "initial"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    for script in sorted(SCRIPTS.glob("*.sql")):
        connection.exec_driver_sql(script.read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("the first migration has nothing to go back to: drop the database")
