"""Executions by their end, for viewers who come back: what of a workspace has closed meanwhile.

On a large installation build it before, without holding writers up, as the role flowtrack_owner:
CREATE INDEX CONCURRENTLY workflow_executions_finished_at ON workflow_executions (workspace_id, finished_at)
WHERE finished_at IS NOT NULL

Revision ID: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

NAME, TABLE = "workflow_executions_finished_at", "workflow_executions"


def upgrade() -> None:
    where = sa.text("finished_at IS NOT NULL")
    op.create_index(NAME, TABLE, ["workspace_id", "finished_at"], postgresql_where=where, if_not_exists=True)


def downgrade() -> None:
    op.drop_index(NAME, TABLE)
