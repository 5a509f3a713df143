-- The log's months. A default partition takes what no month fits, so that a line is never refused.

CREATE TABLE execution_logs_default PARTITION OF execution_logs DEFAULT;
SELECT guard_tenant('public.execution_logs_default');

-- Make one month and move in what the default partition already holds of it.
CREATE FUNCTION make_log_partition(p_month date) RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition_name text := 'execution_logs_' || to_char(p_month, 'YYYY_MM');
    first_moment timestamptz := p_month::timestamp AT TIME ZONE 'UTC';
    last_moment timestamptz := (p_month + interval '1 month') AT TIME ZONE 'UTC';
BEGIN
    -- Writers lock executions before logs; taking the locks in their order avoids a deadlock with them.
    LOCK TABLE public.workflow_executions, public.execution_steps IN SHARE ROW EXCLUSIVE MODE;
    LOCK TABLE public.execution_logs_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.execution_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                   partition_name);
    EXECUTE format($move$
        WITH moved AS (DELETE FROM public.execution_logs_default
                       WHERE created_at >= %L AND created_at < %L RETURNING *)
        INSERT INTO public.%I SELECT * FROM moved $move$, first_moment, last_moment, partition_name);
    EXECUTE format('ALTER TABLE public.execution_logs ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                   partition_name, first_moment, last_moment);
    PERFORM public.guard_tenant(format('public.%I', partition_name)::regclass);
    RETURN partition_name;
END $$;

-- Keep this month and the next ones ready, and drop what has been kept long enough; say what was done.
CREATE FUNCTION door_log_partitions(p_today date, p_months_ahead integer, p_keep_days integer)
RETURNS TABLE (action text, partition_name text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    this_month date := date_trunc('month', p_today::timestamp)::date;
    horizon timestamptz := (p_today - p_keep_days)::timestamp AT TIME ZONE 'UTC';
    wanted date;
    swept bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('flowtrack.execution_logs'));
    FOR wanted IN SELECT (this_month + make_interval(months => n))::date FROM generate_series(0, p_months_ahead) n LOOP
        IF to_regclass('public.execution_logs_' || to_char(wanted, 'YYYY_MM')) IS NULL THEN
            action := 'made';
            partition_name := public.make_log_partition(wanted);
            RETURN NEXT;
        END IF;
    END LOOP;
    action := 'dropped';
    FOR partition_name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.execution_logs'::regclass AND c.relname ~ '^execution_logs_\d{4}_\d{2}$'
          AND (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' <= horizon
        ORDER BY c.relname LOOP
        EXECUTE format('DROP TABLE public.%I', partition_name);
        RETURN NEXT;
    END LOOP;
    DELETE FROM public.execution_logs_default WHERE created_at < horizon;
    GET DIAGNOSTICS swept = ROW_COUNT;
    IF swept > 0 THEN
        action := 'swept';
        partition_name := 'execution_logs_default';
        RETURN NEXT;
    END IF;
END $$;

SELECT door_log_partitions(current_date, 3, 90);

-- Nobody but the application walks through a door, and the helpers behind the doors are the owner's.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
DO $$
DECLARE
    door regprocedure;
BEGIN
    FOR door IN SELECT p.oid::regprocedure FROM pg_proc p
                WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'door\_%' LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO flowtrack_app', door);
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION quota_day(date, integer), open_quota_periods(uuid, text, date) TO flowtrack_app;

-- The application asks which revision it meets before it says that it is ready.
GRANT SELECT ON alembic_version TO flowtrack_app;
