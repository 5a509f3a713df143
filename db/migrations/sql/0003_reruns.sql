-- The row is the order: what a rerun keeps of which run, and that a run is to be cancelled.

ALTER TABLE workflow_executions
    ADD COLUMN rerun_from jsonb,
    ADD COLUMN cancel_requested_at timestamptz,
    ADD COLUMN cancel_due_at timestamptz;

CREATE INDEX door_workflow_executions_cancel
    ON workflow_executions (cancel_due_at) WHERE cancel_due_at IS NOT NULL;

-- Taking one puts its time off: whoever took it and died leaves it to the next.
CREATE FUNCTION door_claim_cancels(p_limit integer, p_stale_after interval)
RETURNS TABLE (workspace_id uuid, execution_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH due AS (
        SELECT e.workspace_id, e.id FROM public.workflow_executions e
        WHERE e.cancel_due_at <= clock_timestamp()
        ORDER BY e.cancel_due_at LIMIT p_limit
        FOR UPDATE SKIP LOCKED)
    UPDATE public.workflow_executions e SET cancel_due_at = clock_timestamp() + p_stale_after
    FROM due WHERE e.workspace_id = due.workspace_id AND e.id = due.id
    RETURNING e.workspace_id, e.id
$$;

REVOKE ALL ON FUNCTION door_claim_cancels(integer, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION door_claim_cancels(integer, interval) TO flowtrack_app;
