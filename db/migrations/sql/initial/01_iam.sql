-- Identity and access (ERD 1-3).

CREATE TABLE users (
    id uuid NOT NULL,
    clerk_user_id text,
    email text NOT NULL,
    first_name text,
    last_name text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_clerk_user_id_key UNIQUE (clerk_user_id),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_email_lower_check CHECK (email = lower(email))
);

CREATE TABLE workspaces (
    id uuid NOT NULL,
    name text NOT NULL,
    slug text NOT NULL,
    intake_email text,
    owner_user_id uuid NOT NULL,
    timezone text NOT NULL DEFAULT 'UTC',
    settings jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workspaces_pkey PRIMARY KEY (id),
    CONSTRAINT workspaces_slug_key UNIQUE (slug),
    CONSTRAINT workspaces_intake_email_key UNIQUE (intake_email),
    CONSTRAINT workspaces_owner_user_id_key UNIQUE (owner_user_id),
    CONSTRAINT workspaces_slug_check CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    CONSTRAINT workspaces_intake_email_lower_check CHECK (intake_email = lower(intake_email)),
    CONSTRAINT workspaces_owner_user_id_fkey FOREIGN KEY (owner_user_id)
        REFERENCES users (id) ON DELETE RESTRICT
);

CREATE TABLE api_keys (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    key_id text NOT NULL,
    secret_hash bytea NOT NULL,
    scopes text[] NOT NULL DEFAULT '{}',
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    created_by_user_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT api_keys_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT api_keys_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT api_keys_created_by_user_id_fkey FOREIGN KEY (created_by_user_id)
        REFERENCES users (id) ON DELETE SET NULL
);
CREATE UNIQUE INDEX door_api_keys_key_id ON api_keys (key_id);

CREATE TABLE idempotency_keys (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    scope text NOT NULL,
    idempotency_key text NOT NULL,
    request_hash bytea NOT NULL,
    response_status integer,
    response_headers jsonb NOT NULL DEFAULT '{}'::jsonb,
    response_body text,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT idempotency_keys_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT idempotency_keys_scope_idempotency_key_key UNIQUE (workspace_id, scope, idempotency_key)
);
CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (workspace_id, expires_at);

CREATE TABLE oauth_credentials (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    provider_type text NOT NULL,
    account_email text,
    access_token_sealed bytea NOT NULL,
    refresh_token_sealed bytea,
    scopes text[] NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'active',
    status_reason text,
    expires_at timestamptz,
    connected_by_user_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT oauth_credentials_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT oauth_credentials_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT oauth_credentials_provider_type_key UNIQUE (workspace_id, provider_type),
    CONSTRAINT oauth_credentials_provider_type_check
        CHECK (provider_type IN ('GOOGLE_EMAIL', 'OUTLOOK_EMAIL', 'CALENDLY')),
    CONSTRAINT oauth_credentials_status_check CHECK (status IN ('active', 'expired', 'revoked')),
    CONSTRAINT oauth_credentials_connected_by_user_id_fkey FOREIGN KEY (connected_by_user_id)
        REFERENCES users (id) ON DELETE SET NULL
);

CREATE TABLE workspace_members (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL,
    permissions jsonb NOT NULL DEFAULT '{}'::jsonb,
    invited_at timestamptz NOT NULL DEFAULT now(),
    joined_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workspace_members_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT workspace_members_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT workspace_members_user_id_key UNIQUE (workspace_id, user_id),
    CONSTRAINT workspace_members_role_check CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    CONSTRAINT workspace_members_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX door_workspace_members_user ON workspace_members (user_id);
CREATE UNIQUE INDEX workspace_members_one_owner ON workspace_members (workspace_id) WHERE role = 'owner';
