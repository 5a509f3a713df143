-- A run that a step of another run started: which step waits for its end, and whether it has taken it in.
ALTER TABLE workflow_executions
    ADD COLUMN awaited_step text,
    ADD COLUMN told_at timestamptz,
    ADD COLUMN collected_at timestamptz;

ALTER TABLE workflow_executions
    DROP CONSTRAINT workflow_executions_trigger_type_check,
    ADD CONSTRAINT workflow_executions_trigger_type_check
        CHECK (trigger_type IN ('FORM', 'MANUAL', 'WEBHOOK', 'SCHEDULE', 'LEAD_EVENT', 'API', 'WORKFLOW'));

CREATE INDEX door_workflow_executions_awaited
    ON workflow_executions (id) WHERE awaited_step IS NOT NULL AND collected_at IS NULL;

-- A run that ends by its own code tells the one that waits itself; that one is told again only if it takes long.
-- What it is told stands in its history, so once is enough: the hourly reminder is for what nobody thought of.
CREATE FUNCTION door_awaited_executions(p_after uuid, p_limit integer)
RETURNS TABLE (workspace_id uuid, execution_id uuid, is_open boolean, parent_id uuid, parent_is_open boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.workspace_id, e.id, e.status IN ('queued', 'running', 'waiting'), p.id,
        coalesce(p.status IN ('queued', 'running', 'waiting'), false)
    FROM public.workflow_executions e
    LEFT JOIN public.workflow_executions p
        ON p.workspace_id = e.workspace_id AND p.id = e.cause_execution_id
    WHERE e.awaited_step IS NOT NULL AND e.collected_at IS NULL AND e.id > p_after
      AND (coalesce(p.status NOT IN ('queued', 'running', 'waiting'), true)
           OR e.status NOT IN ('queued', 'running', 'waiting')
              AND (e.dispatched_at IS NULL OR e.status_reason IN ('terminated', 'timed_out', 'lost')
                   OR e.finished_at < clock_timestamp() - interval '30 seconds')
              AND coalesce(e.told_at, '-infinity') < clock_timestamp() - interval '1 hour')
    ORDER BY e.id LIMIT p_limit
$$;

REVOKE ALL ON FUNCTION door_awaited_executions(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION door_awaited_executions(uuid, integer) TO flowtrack_app;
