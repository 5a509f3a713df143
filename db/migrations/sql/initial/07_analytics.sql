-- Daily numbers (ERD 22).

CREATE TABLE workspace_daily_stats (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    stat_date date NOT NULL,
    leads_created bigint NOT NULL DEFAULT 0,
    leads_won bigint NOT NULL DEFAULT 0,
    total_executions bigint NOT NULL DEFAULT 0,
    successful_executions bigint NOT NULL DEFAULT 0,
    failed_executions bigint NOT NULL DEFAULT 0,
    emails_sent bigint NOT NULL DEFAULT 0,
    emails_opened bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workspace_daily_stats_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT workspace_daily_stats_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT workspace_daily_stats_stat_date_key UNIQUE (workspace_id, stat_date)
);
