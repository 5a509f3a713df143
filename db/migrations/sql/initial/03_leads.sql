-- Leads, answers, history (ERD 9-12).

CREATE TABLE leads (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    email text NOT NULL,
    first_name text,
    last_name text,
    phone text,
    company text,
    status text NOT NULL DEFAULT 'NEW',
    source text,
    timezone text,
    unsubscribed_at timestamptz,
    erased_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT leads_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT leads_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT leads_workflow_id_fkey FOREIGN KEY (workspace_id, workflow_id)
        REFERENCES workflows (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT leads_workflow_id_email_key UNIQUE (workspace_id, workflow_id, email),
    CONSTRAINT leads_workspace_id_check CHECK (workspace_id IS NOT NULL),
    CONSTRAINT leads_email_lower_check CHECK (email = lower(email)),
    CONSTRAINT leads_status_check CHECK (status <> '')
);
CREATE INDEX leads_email ON leads (workspace_id, email);
CREATE INDEX leads_pipeline ON leads (workspace_id, status, created_at) WHERE deleted_at IS NULL;

CREATE TABLE lead_field_data (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    lead_id uuid NOT NULL,
    form_field_id uuid NOT NULL,
    value text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT lead_field_data_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT lead_field_data_lead_id_fkey FOREIGN KEY (workspace_id, lead_id)
        REFERENCES leads (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT lead_field_data_form_field_id_fkey FOREIGN KEY (workspace_id, form_field_id)
        REFERENCES form_fields (workspace_id, id),
    CONSTRAINT lead_field_data_form_field_id_key UNIQUE (workspace_id, lead_id, form_field_id)
);
CREATE INDEX lead_field_data_form_field_id ON lead_field_data (workspace_id, form_field_id);

CREATE TABLE lead_events (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    lead_id uuid NOT NULL,
    event_type text NOT NULL,
    description text,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    triggered_by_user_id uuid,
    triggered_by_workflow_execution_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT lead_events_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT lead_events_lead_id_fkey FOREIGN KEY (workspace_id, lead_id)
        REFERENCES leads (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT lead_events_triggered_by_user_id_fkey FOREIGN KEY (triggered_by_user_id)
        REFERENCES users (id) ON DELETE SET NULL
);
CREATE INDEX lead_events_execution ON lead_events (workspace_id, triggered_by_workflow_execution_id)
    WHERE triggered_by_workflow_execution_id IS NOT NULL;
CREATE INDEX lead_events_lead_id ON lead_events (workspace_id, lead_id, id);
