"""The mirror: one question for each page of the sweep, and a log of what a reset superseded.

Revision ID: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Of an open run only one counts that has taken the place of the run that the mirror knows: a reset.
DOOR = """
CREATE FUNCTION door_unmirrored(p_execution_ids uuid[], p_run_ids text[], p_are_open boolean[])
RETURNS TABLE (execution_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT seen.execution_id
    FROM unnest(p_execution_ids, p_run_ids, p_are_open) AS seen (execution_id, run_id, is_open)
    JOIN public.workflow_executions e ON e.id = seen.execution_id
    LEFT JOIN public.mirror_cursors c ON c.workspace_id = e.workspace_id AND c.execution_id = e.id
    WHERE CASE WHEN seen.is_open THEN c.run_id <> seen.run_id
               ELSE c.closed IS NOT TRUE OR c.run_id <> seen.run_id END
$$
"""
SIGNATURE = "door_unmirrored(uuid[], text[], boolean[])"


def _sources(*names: str) -> str:
    """Build the change of the check; the rows that are there are checked afterwards (db/migrate.py)."""
    given = ", ".join(f"'{name}'" for name in names)
    return (
        "ALTER TABLE execution_logs DROP CONSTRAINT execution_logs_source_check,"
        f" ADD CONSTRAINT execution_logs_source_check CHECK (source IN ({given})) NOT VALID"
    )


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(DOOR)
    connection.exec_driver_sql(f"REVOKE ALL ON FUNCTION {SIGNATURE} FROM PUBLIC")
    connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION {SIGNATURE} TO flowtrack_app")
    op.execute(_sources("history", "attempt", "superseded"))


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
    op.execute("DELETE FROM execution_logs WHERE source = 'superseded'")
    op.execute(_sources("history", "attempt"))
