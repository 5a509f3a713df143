"""A version keeps what was drawn and asked when it was published, so that it can be restored faithfully.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nullable: versions published before have only their graph, and versions never change.
    op.add_column("workflow_versions", sa.Column("document", JSONB))
    op.add_column("workflow_versions", sa.Column("form", JSONB))


def downgrade() -> None:
    op.drop_column("workflow_versions", "form")
    op.drop_column("workflow_versions", "document")
