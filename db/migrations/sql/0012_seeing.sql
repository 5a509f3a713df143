-- What operators see: counts over all workspaces, and open runs that may be stuck. No door here tells more of a
-- tenant than which execution it is.

CREATE INDEX door_effects_in_doubt ON effects (reserved_at) WHERE status IN ('reserved', 'unknown');

-- One statement, so that the numbers are of one moment. Whatever has no rows stands there with 0: a series that
-- comes and goes cannot be alarmed on.
CREATE FUNCTION door_measures(p_doubtful_after interval)
RETURNS TABLE (measure text, label text, rows bigint, oldest_seconds double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH open AS MATERIALIZED (
        SELECT e.status, e.queued_at, e.rerun_of IS NOT NULL AS is_rerun,
            -- A paused workflow holds its runs: they are in no backlog.
            e.status = 'queued' AND e.dispatched_at IS NULL AND NOT EXISTS (
                SELECT 1 FROM public.workflows f
                WHERE f.workspace_id = e.workspace_id AND f.id = e.workflow_id AND f.status = 'paused') AS is_due
        FROM public.workflow_executions e WHERE e.status IN ('queued', 'running', 'waiting')),
    backlog (outbox, since) AS (
        SELECT CASE WHEN o.is_rerun THEN 'reruns' ELSE 'starts' END, o.queued_at FROM open o WHERE o.is_due
        UNION ALL SELECT 'cancels', e.cancel_due_at FROM public.workflow_executions e
        WHERE e.cancel_due_at IS NOT NULL
        UNION ALL SELECT 'wakes', k.created_at FROM public.event_wakes k
        UNION ALL SELECT 'deliveries', d.scheduled_at FROM public.webhook_deliveries d
        WHERE d.status = 'pending' AND d.scheduled_at < clock_timestamp())
    SELECT 'open', s.status, count(o.status), NULL::double precision
    FROM unnest(ARRAY['queued', 'running', 'waiting']) AS s (status) LEFT JOIN open o USING (status) GROUP BY 2
    UNION ALL
    SELECT 'outbox', s.outbox, count(b.outbox),
        coalesce(greatest(extract(epoch FROM clock_timestamp() - min(b.since)), 0), 0)::double precision
    FROM unnest(ARRAY['starts', 'reruns', 'cancels', 'wakes', 'deliveries']) AS s (outbox)
    LEFT JOIN backlog b USING (outbox) GROUP BY 2
    UNION ALL
    SELECT 'doubt', s.status, count(f.status), NULL
    FROM unnest(ARRAY['reserved', 'unknown']) AS s (status)
    LEFT JOIN public.effects f ON f.status = s.status AND f.status IN ('reserved', 'unknown')
        AND f.reserved_at < clock_timestamp() - p_doubtful_after
    GROUP BY 2
    UNION ALL
    SELECT 'endpoints', s.state, count(w.id), NULL
    FROM unnest(ARRAY['enabled', 'disabled', 'given_up']) AS s (state)
    LEFT JOIN public.webhook_endpoints w ON s.state = CASE
        WHEN w.is_enabled THEN 'enabled' WHEN w.disabled_reason IS NULL THEN 'disabled' ELSE 'given_up' END
    GROUP BY 2
    UNION ALL
    -- Nothing should be here; that there is much need not be counted.
    SELECT 'homeless', 'lines', count(*), NULL
    FROM (SELECT 1 FROM public.execution_logs_default LIMIT 1000) AS found
$$;

-- Looks at one batch of open runs, in the order in which they were queued, and tells which of them neither move
-- nor have a reason not to. Every row says how far the batch went; one without an execution says only that.
CREATE FUNCTION door_suspects(p_silent_for interval, p_after timestamptz, p_after_id uuid, p_limit integer)
RETURNS TABLE (workspace_id uuid, execution_id uuid, status text, since timestamptz,
               looked_at bigint, last_queued_at timestamptz, last_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH batch AS MATERIALIZED (
        SELECT e.workspace_id, e.id, e.workflow_id, e.status, e.status_reason, e.queued_at, e.dispatched_at, e.updated_at
        FROM public.workflow_executions e
        WHERE e.status IN ('queued', 'running', 'waiting') AND (e.queued_at, e.id) > (p_after, p_after_id)
        ORDER BY e.queued_at, e.id LIMIT p_limit),
    silent AS (
        SELECT b.workspace_id, b.id, b.status, CASE b.status
            WHEN 'queued' THEN coalesce(b.dispatched_at, b.queued_at)
            WHEN 'running' THEN b.updated_at
            -- Asleep, until the first of its steps is due; what waits for people or events only is never late.
            ELSE (SELECT min((s.value ->> 'wake_at')::timestamptz)
                  FROM public.mirror_cursors c, jsonb_each(c.state -> 'run' -> 'sleeping') s
                  WHERE c.workspace_id = b.workspace_id AND c.execution_id = b.id
                    AND b.updated_at < clock_timestamp() - p_silent_for)
            END AS since
        FROM batch b
        WHERE b.status_reason IS DISTINCT FROM 'paused'
          AND (b.status <> 'queued' OR b.dispatched_at IS NOT NULL OR NOT EXISTS (
              SELECT 1 FROM public.workflows f
              WHERE f.workspace_id = b.workspace_id AND f.id = b.workflow_id AND f.status = 'paused'))),
    suspects AS (SELECT * FROM silent s WHERE s.since < clock_timestamp() - p_silent_for)
    SELECT s.workspace_id, s.id, s.status, s.since, ends.looked_at, ends.last_queued_at, ends.last_id
    FROM (SELECT count(*) AS looked_at, (array_agg(b.queued_at ORDER BY b.queued_at DESC, b.id DESC))[1] AS last_queued_at,
                 (array_agg(b.id ORDER BY b.queued_at DESC, b.id DESC))[1] AS last_id FROM batch b) AS ends
    LEFT JOIN suspects s ON true
    ORDER BY s.since
$$;

REVOKE ALL ON FUNCTION door_measures, door_suspects FROM PUBLIC;
GRANT EXECUTE ON FUNCTION door_measures, door_suspects TO flowtrack_app;
