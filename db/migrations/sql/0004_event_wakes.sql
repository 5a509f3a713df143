-- Wakes: which open run is to be told of which event of its lead. They are written by the event's own statement,
-- whoever writes it, and go once Temporal has the signal (ADR 0012).

ALTER TABLE workflow_versions ADD COLUMN awaits text[] NOT NULL DEFAULT '{}';

-- What was published before waits for what it says. Versions never change; this is no change of one.
ALTER TABLE workflow_versions DISABLE TRIGGER keep_workflow_versions;
UPDATE workflow_versions SET awaits = ARRAY(
    SELECT DISTINCT type #>> '{}' FROM jsonb_path_query(
        graph, '$.nodes[*] ? (@.type == "LOGIC_WAIT_FOR_EVENT").config.events[*].type') AS type
    ORDER BY 1);
ALTER TABLE workflow_versions ENABLE TRIGGER keep_workflow_versions;

CREATE TABLE event_wakes (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    execution_id uuid NOT NULL,
    event_id uuid NOT NULL,
    lock_acquired_at timestamptz,
    locked_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT event_wakes_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT event_wakes_event_id_key UNIQUE (workspace_id, event_id, execution_id),
    CONSTRAINT event_wakes_event_id_fkey FOREIGN KEY (workspace_id, event_id)
        REFERENCES lead_events (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT event_wakes_execution_id_fkey FOREIGN KEY (workspace_id, execution_id)
        REFERENCES workflow_executions (workspace_id, id) ON DELETE CASCADE
);
CREATE INDEX event_wakes_execution_id ON event_wakes (workspace_id, execution_id);
CREATE INDEX door_event_wakes_created_at ON event_wakes (created_at);

SELECT guard_tenant('public.event_wakes'::regclass);
GRANT SELECT, INSERT, DELETE ON event_wakes TO flowtrack_app;

-- A run that is not there yet for this statement has not begun, so the event is not one since it began: nothing is
-- lost by not telling it. What brought a run in is written by the run's own transaction, and is not news to it.
CREATE FUNCTION wake_runs() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO public.event_wakes (workspace_id, id, execution_id, event_id)
    SELECT e.workspace_id, gen_random_uuid(), e.id, NEW.id
    FROM public.workflow_executions e
    JOIN public.workflow_versions v ON v.workspace_id = e.workspace_id AND v.id = e.workflow_version_id
    WHERE e.workspace_id = NEW.workspace_id AND e.lead_id = NEW.lead_id
      AND e.status IN ('queued', 'running', 'waiting') AND NEW.event_type = ANY (v.awaits)
      AND NOT (e.id = NEW.triggered_by_workflow_execution_id AND e.queued_at = now());
    RETURN NULL;
END $$;

CREATE TRIGGER wake_runs AFTER INSERT ON lead_events FOR EACH ROW EXECUTE FUNCTION wake_runs();

-- A run that Temporal does not have yet cannot be told; its wake stays until it can.
CREATE FUNCTION door_claim_wakes(p_limit integer, p_worker text, p_stale_after interval)
RETURNS TABLE (workspace_id uuid, id uuid, execution_id uuid, event_id uuid, event_type text, happened_at timestamptz)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH due AS (
        SELECT k.workspace_id, k.id FROM public.event_wakes k
        JOIN public.workflow_executions e ON e.workspace_id = k.workspace_id AND e.id = k.execution_id
        WHERE (k.lock_acquired_at IS NULL OR k.lock_acquired_at < clock_timestamp() - p_stale_after)
          AND (e.status <> 'queued' OR e.dispatched_at IS NOT NULL)
        ORDER BY k.created_at LIMIT p_limit
        FOR UPDATE OF k SKIP LOCKED),
    taken AS (
        UPDATE public.event_wakes k SET lock_acquired_at = clock_timestamp(), locked_by = p_worker
        FROM due WHERE k.workspace_id = due.workspace_id AND k.id = due.id
        RETURNING k.workspace_id, k.id, k.execution_id, k.event_id)
    SELECT t.workspace_id, t.id, t.execution_id, t.event_id, l.event_type, l.created_at
    FROM taken t JOIN public.lead_events l ON l.workspace_id = t.workspace_id AND l.id = t.event_id
    ORDER BY l.created_at, l.id
$$;

CREATE FUNCTION door_end_wakes(p_workspace_ids uuid[], p_ids uuid[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM public.event_wakes k USING unnest(p_workspace_ids, p_ids) AS done (workspace_id, id)
        WHERE k.workspace_id = done.workspace_id AND k.id = done.id RETURNING 1)
    SELECT count(*) FROM gone
$$;

REVOKE ALL ON FUNCTION wake_runs, door_claim_wakes, door_end_wakes FROM PUBLIC;
GRANT EXECUTE ON FUNCTION door_claim_wakes, door_end_wakes TO flowtrack_app;
