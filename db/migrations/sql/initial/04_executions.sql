-- Executions, steps, logs, effects, the mirror's cursors (ERD 13-15).

CREATE TABLE workflow_executions (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    workflow_version_id uuid NOT NULL,
    lead_id uuid,
    trigger_type text NOT NULL,
    trigger_node_id text,
    status text NOT NULL DEFAULT 'queued',
    status_reason text,
    idempotency_key text,
    trigger_data jsonb NOT NULL DEFAULT '{}'::jsonb,
    output_data jsonb,
    error jsonb,
    rerun_of uuid,
    cause_execution_id uuid,
    hops integer NOT NULL DEFAULT 0,
    temporal_run_id text,
    lock_acquired_at timestamptz,
    locked_by text,
    dispatched_at timestamptz,
    dispatch_attempts integer NOT NULL DEFAULT 0,
    mirrored_at timestamptz,
    queued_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_executions_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT workflow_executions_workflow_id_fkey FOREIGN KEY (workspace_id, workflow_id)
        REFERENCES workflows (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT workflow_executions_workflow_version_id_fkey
        FOREIGN KEY (workspace_id, workflow_id, workflow_version_id)
        REFERENCES workflow_versions (workspace_id, workflow_id, id),
    CONSTRAINT workflow_executions_lead_id_fkey FOREIGN KEY (workspace_id, lead_id)
        REFERENCES leads (workspace_id, id) ON DELETE SET NULL (lead_id),
    CONSTRAINT workflow_executions_rerun_of_fkey FOREIGN KEY (workspace_id, rerun_of)
        REFERENCES workflow_executions (workspace_id, id) ON DELETE SET NULL (rerun_of),
    CONSTRAINT workflow_executions_cause_execution_id_fkey FOREIGN KEY (workspace_id, cause_execution_id)
        REFERENCES workflow_executions (workspace_id, id) ON DELETE SET NULL (cause_execution_id),
    CONSTRAINT workflow_executions_trigger_type_check
        CHECK (trigger_type IN ('FORM', 'MANUAL', 'WEBHOOK', 'SCHEDULE', 'LEAD_EVENT', 'API')),
    CONSTRAINT workflow_executions_status_check
        CHECK (status IN ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled'))
);
CREATE UNIQUE INDEX door_workflow_executions_id ON workflow_executions (id);
CREATE INDEX door_workflow_executions_open
    ON workflow_executions (queued_at) WHERE status IN ('queued', 'running', 'waiting');
CREATE INDEX workflow_executions_cause_execution_id
    ON workflow_executions (workspace_id, cause_execution_id) WHERE cause_execution_id IS NOT NULL;
CREATE UNIQUE INDEX workflow_executions_idempotency_key
    ON workflow_executions (workspace_id, workflow_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX workflow_executions_lead_id
    ON workflow_executions (workspace_id, lead_id, id) WHERE lead_id IS NOT NULL;
CREATE INDEX workflow_executions_rerun_of
    ON workflow_executions (workspace_id, rerun_of) WHERE rerun_of IS NOT NULL;
CREATE INDEX workflow_executions_status ON workflow_executions (workspace_id, status, id);
CREATE INDEX workflow_executions_workflow_id ON workflow_executions (workspace_id, workflow_id, id);

CREATE TABLE effects (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    execution_id uuid NOT NULL,
    node_id text NOT NULL,
    visit integer NOT NULL,
    effect text NOT NULL,
    status text NOT NULL DEFAULT 'reserved',
    output jsonb,
    reserved_at timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz,
    CONSTRAINT effects_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT effects_execution_id_fkey FOREIGN KEY (workspace_id, execution_id)
        REFERENCES workflow_executions (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT effects_effect_key UNIQUE (workspace_id, execution_id, node_id, visit, effect),
    CONSTRAINT effects_status_check CHECK (status IN ('reserved', 'confirmed', 'unknown', 'released'))
);

CREATE TABLE execution_steps (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    execution_id uuid NOT NULL,
    workflow_node_id uuid,
    node_id text NOT NULL,
    node_type text NOT NULL,
    label text,
    visit integer NOT NULL DEFAULT 1,
    step_number integer NOT NULL,
    status text NOT NULL,
    skip_reason text,
    handle text,
    attempt integer NOT NULL DEFAULT 1,
    input_data jsonb,
    output_data jsonb,
    error jsonb,
    started_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT execution_steps_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT execution_steps_execution_id_fkey FOREIGN KEY (workspace_id, execution_id)
        REFERENCES workflow_executions (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT execution_steps_workflow_node_id_fkey FOREIGN KEY (workspace_id, workflow_node_id)
        REFERENCES workflow_nodes (workspace_id, id) ON DELETE SET NULL (workflow_node_id),
    CONSTRAINT execution_steps_visit_key UNIQUE (workspace_id, execution_id, node_id, visit),
    CONSTRAINT execution_steps_status_check
        CHECK (status IN ('running', 'completed', 'failed', 'skipped', 'cancelled')),
    CONSTRAINT execution_steps_visit_check CHECK (visit > 0)
);
CREATE INDEX execution_steps_workflow_node_id ON execution_steps (workspace_id, workflow_node_id)
    WHERE workflow_node_id IS NOT NULL;

CREATE TABLE mirror_cursors (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    execution_id uuid NOT NULL,
    run_id text NOT NULL,
    last_event_id bigint NOT NULL DEFAULT 0,
    state jsonb NOT NULL DEFAULT '{}'::jsonb,
    closed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT mirror_cursors_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT mirror_cursors_execution_id_fkey FOREIGN KEY (workspace_id, execution_id)
        REFERENCES workflow_executions (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT mirror_cursors_run_id_key UNIQUE (workspace_id, execution_id, run_id)
);

CREATE TABLE execution_logs (
    workspace_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    id uuid NOT NULL,
    execution_id uuid NOT NULL,
    execution_step_id uuid,
    node_id text,
    visit integer,
    log_level text NOT NULL DEFAULT 'INFO',
    message text NOT NULL,
    data jsonb,
    source text NOT NULL DEFAULT 'history',
    run_id text,
    event_id bigint,
    attempt integer,
    CONSTRAINT execution_logs_pkey PRIMARY KEY (workspace_id, created_at, id),
    CONSTRAINT execution_logs_execution_id_fkey FOREIGN KEY (workspace_id, execution_id)
        REFERENCES workflow_executions (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT execution_logs_execution_step_id_fkey FOREIGN KEY (workspace_id, execution_step_id)
        REFERENCES execution_steps (workspace_id, id) ON DELETE SET NULL (execution_step_id),
    CONSTRAINT execution_logs_log_level_check CHECK (log_level IN ('DEBUG', 'INFO', 'WARN', 'ERROR')),
    CONSTRAINT execution_logs_source_check CHECK (source IN ('history', 'attempt'))
) PARTITION BY RANGE (created_at);
CREATE INDEX execution_logs_execution_id ON execution_logs (workspace_id, execution_id, created_at);
CREATE INDEX execution_logs_step ON execution_logs (workspace_id, execution_step_id)
    WHERE execution_step_id IS NOT NULL;

ALTER TABLE lead_events
    ADD CONSTRAINT lead_events_triggered_by_workflow_execution_id_fkey
        FOREIGN KEY (workspace_id, triggered_by_workflow_execution_id)
       
        REFERENCES workflow_executions (workspace_id, id) ON DELETE SET NULL (triggered_by_workflow_execution_id);
