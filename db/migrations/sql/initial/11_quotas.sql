-- Quota periods are months that begin on the anchor day, or on the last day of a month that is too short for it.

CREATE FUNCTION quota_day(p_month date, p_anchor integer) RETURNS date
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT least(date_trunc('month', p_month::timestamp)::date + p_anchor - 1,
                 (date_trunc('month', p_month::timestamp) + interval '1 month' - interval '1 day')::date)
$$;

-- Open every period that is missing up to a day; who comes second finds the work done. It runs with the rights of
-- its caller: row-level security decides whose periods these are.
CREATE FUNCTION open_quota_periods(p_workspace_id uuid, p_quota_key text, p_today date) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last public.usage_quotas;
    plan record;
    anchor integer;
    opens date;
    closes date;
    new_limit bigint;
    opened integer := 0;
    was_new integer;
BEGIN
    SELECT q.* INTO last FROM public.usage_quotas q
    WHERE q.workspace_id = p_workspace_id AND q.quota_key = p_quota_key ORDER BY q.period_start DESC LIMIT 1;
    IF last.period_end >= p_today THEN
        RETURN 0;
    END IF;
    SELECT p.quotas, s.current_period_start INTO plan
    FROM public.subscriptions s JOIN public.subscription_plans p ON p.id = s.subscription_plan_id
    WHERE s.workspace_id = p_workspace_id AND s.status IN ('trial', 'active', 'past_due');
    IF FOUND THEN
        new_limit := (plan.quotas ->> p_quota_key)::bigint;
    ELSIF last.id IS NOT NULL THEN
        new_limit := last.quota_limit;
    ELSE
        new_limit := 0;
    END IF;
    IF last.id IS NOT NULL THEN
        anchor := last.anchor_day;
        opens := last.period_end + 1;
    ELSE
        SELECT extract(day FROM coalesce(plan.current_period_start, w.created_at) AT TIME ZONE 'UTC')
        INTO anchor FROM public.workspaces w WHERE w.id = p_workspace_id;
        IF NOT FOUND THEN
            RETURN 0;
        END IF;
        opens := public.quota_day(p_today, anchor);
        IF opens > p_today THEN
            opens := public.quota_day((date_trunc('month', p_today::timestamp) - interval '1 month')::date, anchor);
        END IF;
    END IF;
    LOOP
        closes := public.quota_day((date_trunc('month', opens::timestamp) + interval '1 month')::date, anchor) - 1;
        INSERT INTO public.usage_quotas
            (workspace_id, id, quota_key, quota_limit, period_start, period_end, anchor_day)
        VALUES (p_workspace_id, gen_random_uuid(), p_quota_key, new_limit, opens, closes, anchor)
        ON CONFLICT (workspace_id, quota_key, period_start) DO NOTHING;
        GET DIAGNOSTICS was_new = ROW_COUNT;
        opened := opened + was_new;
        EXIT WHEN closes >= p_today;
        opens := closes + 1;
    END LOOP;
    RETURN opened;
END $$;

-- The quota reset: every period that has ended gets its successors; a second, late or parallel run adds nothing.
CREATE FUNCTION door_roll_quotas(p_today date, p_batch integer)
RETURNS TABLE (workspace_id uuid, quota_key text, opened integer)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT ended.workspace_id, ended.quota_key,
           public.open_quota_periods(ended.workspace_id, ended.quota_key, p_today)
    FROM (SELECT q.workspace_id, q.quota_key FROM public.usage_quotas q
          WHERE q.period_end < p_today AND NOT EXISTS (
              SELECT FROM public.usage_quotas later WHERE later.workspace_id = q.workspace_id
              AND later.quota_key = q.quota_key AND later.period_start > q.period_start)
          LIMIT p_batch) AS ended
$$;

CREATE FUNCTION door_create_workspace(
    p_workspace_id uuid, p_user_id uuid, p_member_id uuid, p_subscription_id uuid,
    p_email text, p_clerk_user_id text, p_first_name text, p_last_name text,
    p_name text, p_slug text, p_timezone text, p_plan_slug text, p_today date)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner_id uuid := public.door_save_user(p_user_id, p_email, p_clerk_user_id, p_first_name, p_last_name);
    plan public.subscription_plans;
BEGIN
    SELECT p.* INTO plan FROM public.subscription_plans p
    WHERE p.slug = p_plan_slug AND p.retired_at IS NULL ORDER BY p.version DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no plan %', p_plan_slug USING ERRCODE = 'no_data_found';
    END IF;
    INSERT INTO public.workspaces (id, name, slug, owner_user_id, timezone)
    VALUES (p_workspace_id, p_name, p_slug, owner_id, p_timezone);
    INSERT INTO public.workspace_members (workspace_id, id, user_id, role, joined_at)
    VALUES (p_workspace_id, p_member_id, owner_id, 'owner', now());
    INSERT INTO public.subscriptions
        (workspace_id, id, subscription_plan_id, status, current_period_start, current_period_end)
    VALUES (p_workspace_id, p_subscription_id, plan.id, 'active',
            p_today::timestamp AT TIME ZONE 'UTC', (p_today + interval '1 month') AT TIME ZONE 'UTC');
    PERFORM public.open_quota_periods(p_workspace_id, quota_key, p_today)
    FROM unnest(ARRAY['workflows', 'leads', 'executions', 'email_sends']) AS quota_key;
    RETURN owner_id;
END $$;

-- The first versions of the plans; a change is a new version in a later migration.
INSERT INTO subscription_plans (id, name, slug, price_monthly_cents, price_yearly_cents, quotas, features) VALUES
    ('019317f0-0000-7000-8000-000000000001', 'Free', 'free', 0, 0,
     '{"workflows": 5, "leads": 1000, "executions": 5000, "email_sends": 1000}', '{"members": 2}'),
    ('019317f0-0000-7000-8000-000000000002', 'Starter', 'starter', 2900, 29000,
     '{"workflows": 25, "leads": 10000, "executions": 50000, "email_sends": 10000}', '{"members": 5}'),
    ('019317f0-0000-7000-8000-000000000003', 'Pro', 'pro', 9900, 99000,
     '{"workflows": 200, "leads": 200000, "executions": 1000000, "email_sends": 200000}', '{"members": 50}');
