-- Row-level security: the application sees the workspace of its transaction, and without one nothing at all.
-- The owner's own policy lets the doors (security definer functions) work although security is forced.

CREATE FUNCTION guard_tenant(target regclass) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
    EXECUTE format($policy$
        CREATE POLICY tenant ON %s TO flowtrack_app
            USING (workspace_id = (SELECT nullif(current_setting('flowtrack.workspace_id', true), '')::uuid))
            WITH CHECK (workspace_id = (SELECT nullif(current_setting('flowtrack.workspace_id', true), '')::uuid))
        $policy$, target);
    EXECUTE format('CREATE POLICY owner ON %s TO flowtrack_owner USING (true) WITH CHECK (true)', target);
END $$;

SELECT guard_tenant(tenant_table) FROM unnest(ARRAY[
    'public.workspace_members', 'public.oauth_credentials', 'public.api_keys', 'public.idempotency_keys',
    'public.workflows', 'public.workflow_nodes', 'public.workflow_edges', 'public.workflow_versions',
    'public.workflow_hooks', 'public.form_fields', 'public.leads', 'public.lead_field_data', 'public.lead_events',
    'public.workflow_executions', 'public.execution_steps', 'public.execution_logs', 'public.effects',
    'public.mirror_cursors', 'public.subscriptions', 'public.usage_quotas', 'public.usage_events',
    'public.webhook_endpoints', 'public.webhook_deliveries', 'public.workspace_daily_stats'
]::regclass[]) AS tenant_table;

-- The three tables without a workspace_id: a workspace sees itself and its members' people; plans are public.
ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE workspaces FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON workspaces TO flowtrack_app
    USING (id = (SELECT nullif(current_setting('flowtrack.workspace_id', true), '')::uuid))
    WITH CHECK (id = (SELECT nullif(current_setting('flowtrack.workspace_id', true), '')::uuid));
CREATE POLICY owner ON workspaces TO flowtrack_owner USING (true) WITH CHECK (true);

ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON users FOR SELECT TO flowtrack_app
    USING (EXISTS (
        SELECT FROM workspace_members m
        WHERE m.workspace_id = (SELECT nullif(current_setting('flowtrack.workspace_id', true), '')::uuid)
          AND m.user_id = users.id));
CREATE POLICY owner ON users TO flowtrack_owner USING (true) WITH CHECK (true);

ALTER TABLE subscription_plans ENABLE ROW LEVEL SECURITY;
ALTER TABLE subscription_plans FORCE ROW LEVEL SECURITY;
CREATE POLICY readable ON subscription_plans FOR SELECT TO flowtrack_app USING (true);
CREATE POLICY owner ON subscription_plans TO flowtrack_owner USING (true) WITH CHECK (true);

GRANT SELECT ON users, subscription_plans TO flowtrack_app;
GRANT SELECT, UPDATE, DELETE ON workspaces TO flowtrack_app;
-- History and evidence: written once.
GRANT SELECT, INSERT ON lead_events, workflow_versions, usage_events TO flowtrack_app;
-- Deleted softly, or with their workflow.
GRANT SELECT, INSERT, UPDATE ON leads, workflow_executions TO flowtrack_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    workspace_members, oauth_credentials, api_keys, idempotency_keys,
    workflows, workflow_nodes, workflow_edges, workflow_hooks, form_fields, lead_field_data,
    execution_steps, execution_logs, effects, mirror_cursors,
    subscriptions, usage_quotas, webhook_endpoints, webhook_deliveries, workspace_daily_stats
    TO flowtrack_app;
