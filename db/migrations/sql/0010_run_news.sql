-- Whoever looks at runs is told which of them changed; the rows are the truth (ADR 0019). A trigger, so that no
-- writer can forget it and none pays a round trip. The word carries ids, and whether the status is another one.
-- What only passes over a row (a claim, a look that found nothing) leaves its updated_at, and is no news.

CREATE FUNCTION tell_run_news() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_status boolean := true;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        is_status := NEW.status IS DISTINCT FROM OLD.status OR NEW.status_reason IS DISTINCT FROM OLD.status_reason;
    END IF;
    PERFORM pg_notify('flowtrack_news',
        NEW.workspace_id || ' ' || NEW.id || CASE WHEN is_status THEN ' status' ELSE '' END);
    RETURN NULL;
END $$;

CREATE TRIGGER tell_run_made AFTER INSERT ON workflow_executions FOR EACH ROW EXECUTE FUNCTION tell_run_news();
CREATE TRIGGER tell_run_changed AFTER UPDATE ON workflow_executions FOR EACH ROW
    WHEN (NEW.updated_at IS DISTINCT FROM OLD.updated_at OR NEW.status IS DISTINCT FROM OLD.status)
    EXECUTE FUNCTION tell_run_news();

REVOKE ALL ON FUNCTION tell_run_news FROM PUBLIC;
