-- Plans, subscriptions, quotas, usage (ERD 16-19).

CREATE TABLE subscription_plans (
    id uuid NOT NULL,
    name text NOT NULL,
    slug text NOT NULL,
    version integer NOT NULL DEFAULT 1,
    price_monthly_cents bigint NOT NULL DEFAULT 0,
    price_yearly_cents bigint NOT NULL DEFAULT 0,
    currency text NOT NULL DEFAULT 'usd',
    stripe_price_monthly_id text,
    stripe_price_yearly_id text,
    quotas jsonb NOT NULL DEFAULT '{}'::jsonb,
    features jsonb NOT NULL DEFAULT '{}'::jsonb,
    retired_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subscription_plans_pkey PRIMARY KEY (id),
    CONSTRAINT subscription_plans_slug_version_key UNIQUE (slug, version),
    CONSTRAINT subscription_plans_version_check CHECK (version > 0),
    CONSTRAINT subscription_plans_price_check CHECK (price_monthly_cents >= 0 AND price_yearly_cents >= 0)
);

CREATE TABLE subscriptions (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    subscription_plan_id uuid NOT NULL,
    stripe_subscription_id text,
    stripe_customer_id text,
    status text NOT NULL DEFAULT 'active',
    billing_cycle text NOT NULL DEFAULT 'monthly',
    current_period_start timestamptz NOT NULL,
    current_period_end timestamptz NOT NULL,
    trial_ends_at timestamptz,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    cancelled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subscriptions_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT subscriptions_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT subscriptions_status_check
        CHECK (status IN ('trial', 'active', 'past_due', 'cancelled', 'expired')),
    CONSTRAINT subscriptions_billing_cycle_check CHECK (billing_cycle IN ('monthly', 'yearly')),
    CONSTRAINT subscriptions_current_period_check CHECK (current_period_end > current_period_start),
    CONSTRAINT subscriptions_subscription_plan_id_fkey FOREIGN KEY (subscription_plan_id)
        REFERENCES subscription_plans (id) ON DELETE RESTRICT
);
CREATE INDEX door_subscriptions_customer ON subscriptions (stripe_customer_id)
    WHERE stripe_customer_id IS NOT NULL;
CREATE INDEX door_subscriptions_plan ON subscriptions (subscription_plan_id);
CREATE UNIQUE INDEX door_subscriptions_stripe ON subscriptions (stripe_subscription_id)
    WHERE stripe_subscription_id IS NOT NULL;
CREATE INDEX subscriptions_created_at ON subscriptions (workspace_id, created_at);
CREATE UNIQUE INDEX subscriptions_one_current ON subscriptions (workspace_id)
    WHERE status IN ('trial', 'active', 'past_due');

CREATE TABLE usage_events (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    event_type text NOT NULL,
    event_category text NOT NULL,
    quantity bigint NOT NULL DEFAULT 1,
    related_resource_type text,
    related_resource_id text,
    is_billable boolean NOT NULL DEFAULT false,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT usage_events_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT usage_events_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT usage_events_event_category_check
        CHECK (event_category IN ('compute', 'communication', 'storage', 'api')),
    CONSTRAINT usage_events_quantity_check CHECK (quantity >= 0)
);
CREATE INDEX usage_events_event_type ON usage_events (workspace_id, event_type, created_at);

CREATE TABLE usage_quotas (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    quota_key text NOT NULL,
    quota_limit bigint,
    quota_used bigint NOT NULL DEFAULT 0,
    period_start date NOT NULL,
    period_end date NOT NULL,
    anchor_day smallint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT usage_quotas_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT usage_quotas_workspace_id_fkey FOREIGN KEY (workspace_id)
        REFERENCES workspaces (id) ON DELETE CASCADE,
    CONSTRAINT usage_quotas_period_start_key UNIQUE (workspace_id, quota_key, period_start),
    CONSTRAINT usage_quotas_quota_key_check
        CHECK (quota_key IN ('workflows', 'leads', 'executions', 'email_sends')),
    CONSTRAINT usage_quotas_quota_limit_check CHECK (quota_limit BETWEEN 0 AND 1000000000000000),
    CONSTRAINT usage_quotas_quota_used_check CHECK (quota_used >= 0),
    CONSTRAINT usage_quotas_period_check CHECK (period_end >= period_start),
    CONSTRAINT usage_quotas_anchor_day_check CHECK (anchor_day BETWEEN 1 AND 31)
);
CREATE INDEX door_usage_quotas_period_end ON usage_quotas (period_end);
