-- Outgoing webhooks and their attempts (ERD 20-21).

CREATE TABLE webhook_endpoints (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    url text NOT NULL,
    description text,
    subscribed_events text[] NOT NULL DEFAULT '{}',
    secret_sealed bytea NOT NULL,
    previous_secret_sealed bytea,
    previous_secret_expires_at timestamptz,
    is_enabled boolean NOT NULL DEFAULT true,
    disabled_reason text,
    max_attempts integer NOT NULL DEFAULT 8,
    headers jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhook_endpoints_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT webhook_endpoints_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT webhook_endpoints_max_attempts_check CHECK (max_attempts BETWEEN 1 AND 100)
);

CREATE TABLE webhook_deliveries (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    webhook_endpoint_id uuid NOT NULL,
    message_id text NOT NULL,
    execution_id uuid,
    event_type text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}'::jsonb,
    body text,
    status text NOT NULL DEFAULT 'pending',
    http_status_code integer,
    response_body text,
    error text,
    attempt_number integer NOT NULL DEFAULT 1,
    scheduled_at timestamptz NOT NULL DEFAULT now(),
    attempted_at timestamptz,
    duration_ms integer,
    lock_acquired_at timestamptz,
    locked_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT webhook_deliveries_webhook_endpoint_id_fkey FOREIGN KEY (workspace_id, webhook_endpoint_id)
        REFERENCES webhook_endpoints (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT webhook_deliveries_execution_id_fkey FOREIGN KEY (workspace_id, execution_id)
        REFERENCES workflow_executions (workspace_id, id) ON DELETE SET NULL (execution_id),
    CONSTRAINT webhook_deliveries_attempt_number_key
        UNIQUE (workspace_id, webhook_endpoint_id, message_id, attempt_number),
    CONSTRAINT webhook_deliveries_status_check
        CHECK (status IN ('pending', 'delivered', 'failed', 'cancelled')),
    CONSTRAINT webhook_deliveries_attempt_number_check CHECK (attempt_number > 0)
);
CREATE INDEX door_webhook_deliveries_due ON webhook_deliveries (scheduled_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_endpoint ON webhook_deliveries (workspace_id, webhook_endpoint_id, id);
CREATE INDEX webhook_deliveries_execution ON webhook_deliveries (workspace_id, execution_id)
    WHERE execution_id IS NOT NULL;
