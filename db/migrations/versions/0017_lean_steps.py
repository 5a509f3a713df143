"""A run's steps have one index for two: their key begins with the run, as whoever asks for them does (ADR 0024).

The log's foreign key is made anew, which reads the log once; steps and log take no writes meanwhile. It stands on
the run, too: a line can no longer name another run's step.

Revision ID: 0017
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

STEPS, LOGS = "execution_steps", "execution_logs"
KEY, INDEX = "execution_steps_pkey", "execution_steps_execution_id"
REFERENCE = "execution_logs_execution_step_id_fkey"


def upgrade() -> None:
    op.drop_constraint(op.f(REFERENCE), LOGS)
    op.drop_constraint(op.f(KEY), STEPS)
    op.drop_index(INDEX, STEPS)
    # A run's steps are written as it goes on: nothing comes between those of older runs.
    op.execute(
        f"ALTER TABLE {STEPS} ADD CONSTRAINT {KEY} PRIMARY KEY (workspace_id, execution_id, id)"
        " WITH (fillfactor = 100)"
    )
    refer("workspace_id", "execution_id", step="execution_step_id")


def downgrade() -> None:
    op.drop_constraint(op.f(REFERENCE), LOGS)
    op.drop_constraint(op.f(KEY), STEPS)
    op.create_primary_key(op.f(KEY), STEPS, ["workspace_id", "id"])
    op.create_index(INDEX, STEPS, ["workspace_id", "execution_id"], postgresql_with={"fillfactor": 100})
    refer("workspace_id", step="execution_step_id")


def refer(*columns: str, step: str) -> None:
    """Tie the log's lines to steps; a step that is deleted leaves its lines without it."""
    op.create_foreign_key(
        op.f(REFERENCE), LOGS, STEPS, [*columns, step], [*columns, "id"], ondelete=f"SET NULL ({step})"
    )
