-- Workflows: draft graph, form, published versions (ERD 4-8).

CREATE TABLE workflows (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    description text,
    slug text,
    status text NOT NULL DEFAULT 'draft',
    template_id uuid,
    published_version_id uuid,
    trigger_type text,
    trigger jsonb,
    settings jsonb NOT NULL DEFAULT '{}'::jsonb,
    viewport jsonb,
    graph_version integer NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflows_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT workflows_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT workflows_template_id_fkey FOREIGN KEY (workspace_id, template_id)
        REFERENCES workflows (workspace_id, id) ON DELETE SET NULL (template_id),
    CONSTRAINT workflows_status_check CHECK (status IN ('draft', 'active', 'paused', 'archived')),
    CONSTRAINT workflows_slug_check CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$')
);
CREATE UNIQUE INDEX workflows_slug ON workflows (workspace_id, slug) WHERE deleted_at IS NULL;
CREATE INDEX workflows_template_id ON workflows (workspace_id, template_id) WHERE template_id IS NOT NULL;
CREATE INDEX workflows_trigger_type ON workflows (workspace_id, trigger_type) WHERE deleted_at IS NULL;
CREATE INDEX door_workflows_scheduled ON workflows (id) WHERE trigger_type = 'TRIGGER_SCHEDULE';

CREATE TABLE form_fields (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    field_key text NOT NULL,
    label text NOT NULL,
    field_type text NOT NULL,
    options jsonb NOT NULL DEFAULT '[]'::jsonb,
    is_required boolean NOT NULL DEFAULT false,
    placeholder text,
    help_text text,
    validation jsonb NOT NULL DEFAULT '{}'::jsonb,
    position integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT form_fields_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT form_fields_workflow_id_fkey FOREIGN KEY (workspace_id, workflow_id)
        REFERENCES workflows (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT form_fields_field_key_key UNIQUE (workspace_id, workflow_id, field_key),
    CONSTRAINT form_fields_field_type_check
        CHECK (field_type IN ('TEXT', 'EMAIL', 'DROPDOWN', 'NUMBER', 'DATE', 'CHECKBOX'))
);

CREATE TABLE workflow_edges (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    react_flow_edge_id text NOT NULL,
    source_node_id text NOT NULL,
    target_node_id text NOT NULL,
    source_handle text,
    target_handle text,
    condition jsonb,
    is_enabled boolean NOT NULL DEFAULT true,
    ordinal integer NOT NULL DEFAULT 0,
    extra jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_edges_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT workflow_edges_workflow_id_fkey FOREIGN KEY (workspace_id, workflow_id)
        REFERENCES workflows (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT workflow_edges_react_flow_edge_id_key UNIQUE (workspace_id, workflow_id, react_flow_edge_id),
    CONSTRAINT workflow_edges_no_self_loop_check CHECK (source_node_id <> target_node_id)
);
CREATE INDEX workflow_edges_source ON workflow_edges (workspace_id, workflow_id, source_node_id);
CREATE INDEX workflow_edges_target ON workflow_edges (workspace_id, workflow_id, target_node_id);

CREATE TABLE workflow_hooks (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    token_sealed bytea NOT NULL,
    secret_sealed bytea,
    previous_secret_sealed bytea,
    previous_secret_expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_hooks_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT workflow_hooks_workflow_id_fkey FOREIGN KEY (workspace_id, workflow_id)
        REFERENCES workflows (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT workflow_hooks_workflow_id_key UNIQUE (workspace_id, workflow_id)
);
CREATE UNIQUE INDEX door_workflow_hooks_token_hash ON workflow_hooks (token_hash);

CREATE TABLE workflow_nodes (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    react_flow_node_id text NOT NULL,
    node_type text NOT NULL,
    label text,
    config jsonb NOT NULL DEFAULT '{}'::jsonb,
    position jsonb NOT NULL DEFAULT '{}'::jsonb,
    ordinal integer NOT NULL DEFAULT 0,
    extra jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_nodes_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT workflow_nodes_workflow_id_fkey FOREIGN KEY (workspace_id, workflow_id)
        REFERENCES workflows (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT workflow_nodes_react_flow_node_id_key UNIQUE (workspace_id, workflow_id, react_flow_node_id)
);
CREATE INDEX workflow_nodes_node_type ON workflow_nodes (workspace_id, node_type, workflow_id);

CREATE TABLE workflow_versions (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    version integer NOT NULL,
    content_hash text NOT NULL,
    graph jsonb NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    published_by uuid,
    CONSTRAINT workflow_versions_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT workflow_versions_workflow_id_fkey FOREIGN KEY (workspace_id, workflow_id)
        REFERENCES workflows (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT workflow_versions_version_key UNIQUE (workspace_id, workflow_id, version),
    CONSTRAINT workflow_versions_workflow_id_id_key UNIQUE (workspace_id, workflow_id, id),
    CONSTRAINT workflow_versions_version_check CHECK (version > 0),
    CONSTRAINT workflow_versions_published_by_fkey FOREIGN KEY (published_by)
        REFERENCES users (id) ON DELETE SET NULL
);

ALTER TABLE workflows
    ADD CONSTRAINT workflows_published_version_id_fkey FOREIGN KEY (workspace_id, id, published_version_id)
        REFERENCES workflow_versions (workspace_id, workflow_id, id);
