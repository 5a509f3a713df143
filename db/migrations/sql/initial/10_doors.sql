-- The doors: everything that has to look across workspaces, one function each. db/doors.py lists and wraps them.

CREATE FUNCTION door_form(p_workspace_slug text, p_form_slug text)
RETURNS TABLE (workspace_id uuid, workflow_id uuid, status text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT f.workspace_id, f.id, f.status
    FROM public.workspaces w JOIN public.workflows f ON f.workspace_id = w.id
    WHERE w.slug = p_workspace_slug AND f.slug = p_form_slug AND f.deleted_at IS NULL
$$;

CREATE FUNCTION door_hook(p_token_hash bytea)
RETURNS TABLE (workspace_id uuid, workflow_id uuid, status text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT f.workspace_id, f.id, f.status
    FROM public.workflow_hooks h
    JOIN public.workflows f ON f.workspace_id = h.workspace_id AND f.id = h.workflow_id
    WHERE h.token_hash = p_token_hash AND f.deleted_at IS NULL
$$;

-- Those that are deleted or have another trigger by now are among them no more: their schedules go.
CREATE FUNCTION door_scheduled_workflows(p_after uuid, p_limit integer)
RETURNS TABLE (workspace_id uuid, workflow_id uuid, status text, zone text, config jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT f.workspace_id, f.id, f.status, w.timezone, coalesce(f.trigger -> 'config', '{}'::jsonb)
    FROM public.workflows f JOIN public.workspaces w ON w.id = f.workspace_id
    WHERE f.trigger_type = 'TRIGGER_SCHEDULE' AND f.deleted_at IS NULL AND f.status IN ('active', 'paused')
      AND f.id > p_after
    ORDER BY f.id LIMIT p_limit
$$;

CREATE FUNCTION door_api_key(p_key_id text)
RETURNS TABLE (workspace_id uuid, id uuid, secret_hash bytea, scopes text[],
               expires_at timestamptz, revoked_at timestamptz, last_used_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.workspace_id, k.id, k.secret_hash, k.scopes, k.expires_at, k.revoked_at, k.last_used_at
    FROM public.api_keys k WHERE k.key_id = p_key_id
$$;

CREATE FUNCTION door_execution(p_execution_id uuid) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.workspace_id FROM public.workflow_executions e WHERE e.id = p_execution_id
$$;

CREATE FUNCTION door_workspace_by_slug(p_slug text) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.id FROM public.workspaces w WHERE w.slug = p_slug
$$;

CREATE FUNCTION door_workspace_by_intake_email(p_email text) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.id FROM public.workspaces w WHERE w.intake_email = lower(p_email)
$$;

CREATE FUNCTION door_workspace_by_stripe(p_subscription text, p_customer text) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.workspace_id FROM public.subscriptions s
    WHERE s.stripe_subscription_id = p_subscription OR s.stripe_customer_id = p_customer
    ORDER BY (s.stripe_subscription_id = p_subscription) DESC NULLS LAST, s.created_at DESC LIMIT 1
$$;

CREATE FUNCTION door_memberships(p_clerk_user_id text)
RETURNS TABLE (user_id uuid, workspace_id uuid, slug text, role text, permissions jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT u.id, w.id, w.slug, m.role, m.permissions
    FROM public.users u
    JOIN public.workspace_members m ON m.user_id = u.id
    JOIN public.workspaces w ON w.id = m.workspace_id
    WHERE u.clerk_user_id = p_clerk_user_id
    ORDER BY w.created_at, w.id
$$;

-- A person keeps what is known of them: a missing name or Clerk id never blanks an earlier one.
CREATE FUNCTION door_save_user(p_id uuid, p_email text, p_clerk_user_id text, p_first_name text, p_last_name text)
RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.users AS u (id, email, clerk_user_id, first_name, last_name)
    VALUES (p_id, lower(p_email), p_clerk_user_id, p_first_name, p_last_name)
    ON CONFLICT (email) DO UPDATE SET
        clerk_user_id = coalesce(u.clerk_user_id, excluded.clerk_user_id),
        first_name = coalesce(excluded.first_name, u.first_name),
        last_name = coalesce(excluded.last_name, u.last_name),
        updated_at = now()
    RETURNING u.id
$$;

CREATE FUNCTION door_delete_user(p_clerk_user_id text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (DELETE FROM public.users u WHERE u.clerk_user_id = p_clerk_user_id RETURNING u.id)
    SELECT count(*) FROM gone
$$;

CREATE FUNCTION door_claim_queued(p_limit integer, p_worker text, p_stale_after interval)
RETURNS TABLE (workspace_id uuid, execution_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH due AS (
        SELECT e.workspace_id, e.id FROM public.workflow_executions e
        WHERE e.status = 'queued' AND e.dispatched_at IS NULL
          AND (e.lock_acquired_at IS NULL OR e.lock_acquired_at < clock_timestamp() - p_stale_after)
          -- A paused workflow holds its runs (design §5).
          AND NOT EXISTS (SELECT 1 FROM public.workflows f
                          WHERE f.workspace_id = e.workspace_id AND f.id = e.workflow_id AND f.status = 'paused')
        ORDER BY e.queued_at LIMIT p_limit
        FOR UPDATE OF e SKIP LOCKED)
    UPDATE public.workflow_executions e
    SET lock_acquired_at = clock_timestamp(), locked_by = p_worker,
        dispatch_attempts = e.dispatch_attempts + 1, updated_at = now()
    FROM due WHERE e.workspace_id = due.workspace_id AND e.id = due.id
    RETURNING e.workspace_id, e.id
$$;

CREATE FUNCTION door_open_executions(p_silent_for interval, p_limit integer)
RETURNS TABLE (workspace_id uuid, execution_id uuid, status text, temporal_run_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.workspace_id, e.id, e.status, e.temporal_run_id FROM public.workflow_executions e
    WHERE e.status IN ('queued', 'running', 'waiting')
      AND (e.status <> 'queued' OR e.dispatched_at IS NOT NULL)
      AND coalesce(e.mirrored_at, e.dispatched_at, e.queued_at) < clock_timestamp() - p_silent_for
    ORDER BY coalesce(e.mirrored_at, e.dispatched_at, e.queued_at) LIMIT p_limit
$$;

CREATE FUNCTION door_due_deliveries(p_limit integer, p_worker text, p_stale_after interval)
RETURNS TABLE (workspace_id uuid, delivery_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH due AS (
        SELECT d.workspace_id, d.id FROM public.webhook_deliveries d
        WHERE d.status = 'pending' AND d.scheduled_at < clock_timestamp()
          AND (d.lock_acquired_at IS NULL OR d.lock_acquired_at < clock_timestamp() - p_stale_after)
        ORDER BY d.scheduled_at LIMIT p_limit
        FOR UPDATE SKIP LOCKED)
    UPDATE public.webhook_deliveries d
    SET lock_acquired_at = clock_timestamp(), locked_by = p_worker, updated_at = now()
    FROM due WHERE d.workspace_id = due.workspace_id AND d.id = due.id
    RETURNING d.workspace_id, d.id
$$;

CREATE FUNCTION door_purge_idempotency_keys(p_limit integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM public.idempotency_keys WHERE (workspace_id, id) IN (
            SELECT k.workspace_id, k.id FROM public.idempotency_keys k WHERE k.expires_at < now() LIMIT p_limit)
        RETURNING 1)
    SELECT count(*) FROM gone
$$;

-- An edge outlives its node (ERD 5); after a while nobody will put the node back.
CREATE FUNCTION door_prune_edges(p_limit integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH orphans AS (
        SELECT e.workspace_id, e.id FROM public.workflow_edges e
        WHERE 2 > (SELECT count(*) FROM public.workflow_nodes n
                   WHERE n.workspace_id = e.workspace_id AND n.workflow_id = e.workflow_id
                     AND n.react_flow_node_id IN (e.source_node_id, e.target_node_id))
        LIMIT p_limit),
    gone AS (
        DELETE FROM public.workflow_edges e USING orphans o
        WHERE e.workspace_id = o.workspace_id AND e.id = o.id RETURNING 1)
    SELECT count(*) FROM gone
$$;
