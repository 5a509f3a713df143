-- What no grant can say: history is append-only, versions and plans never change.

-- Lead events go only with their workspace or workflow. A cascade removes the parent first, so a parent that is
-- still there means that somebody asked for the events themselves. Two updates are let through: the one that a
-- foreign key makes when it forgets a deleted actor, and the blanking of an erased lead's personal data.
CREATE FUNCTION keep_lead_events() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF NOT EXISTS (SELECT FROM public.leads l WHERE l.workspace_id = OLD.workspace_id AND l.id = OLD.lead_id)
           AND pg_trigger_depth() > 1 THEN
            RETURN OLD;
        END IF;
    ELSIF TG_OP = 'UPDATE' THEN
        IF (pg_trigger_depth() > 1 AND to_jsonb(NEW) = to_jsonb(OLD)
            || CASE WHEN NEW.triggered_by_user_id IS NULL
                    THEN '{"triggered_by_user_id": null}'::jsonb ELSE '{}'::jsonb END
            || CASE WHEN NEW.triggered_by_workflow_execution_id IS NULL
                    THEN '{"triggered_by_workflow_execution_id": null}'::jsonb ELSE '{}'::jsonb END) THEN
            RETURN NEW;
        END IF;
        IF to_jsonb(NEW) = to_jsonb(OLD) || '{"description": null, "metadata": {"erased": true}}'::jsonb
           AND EXISTS (SELECT FROM public.leads l WHERE l.workspace_id = OLD.workspace_id
                       AND l.id = OLD.lead_id AND l.erased_at IS NOT NULL) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'lead_events is append-only' USING ERRCODE = 'restrict_violation', TABLE = 'lead_events';
END $$;

CREATE TRIGGER keep_lead_events BEFORE UPDATE OR DELETE ON lead_events
    FOR EACH ROW EXECUTE FUNCTION keep_lead_events();
CREATE TRIGGER keep_lead_events_truncate BEFORE TRUNCATE ON lead_events
    FOR EACH STATEMENT EXECUTE FUNCTION keep_lead_events();

-- A lead with a history is deleted softly; for good only together with its workspace or workflow.
CREATE FUNCTION keep_leads() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM public.workflows w WHERE w.workspace_id = OLD.workspace_id AND w.id = OLD.workflow_id)
       AND EXISTS (SELECT FROM public.workspaces w WHERE w.id = OLD.workspace_id)
       AND EXISTS (SELECT FROM public.lead_events e
                   WHERE e.workspace_id = OLD.workspace_id AND e.lead_id = OLD.id) THEN
        RAISE EXCEPTION 'a lead with events is deleted softly'
            USING ERRCODE = 'restrict_violation', TABLE = 'leads';
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER keep_leads BEFORE DELETE ON leads FOR EACH ROW EXECUTE FUNCTION keep_leads();

-- A form field with answers can't be deleted: its foreign key says NO ACTION. When its whole workflow goes, the key
-- is checked before the cascade has come to the answers by way of the leads; so they go first.
CREATE FUNCTION clear_form_field() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.workflows w
                   WHERE w.workspace_id = OLD.workspace_id AND w.id = OLD.workflow_id) THEN
        DELETE FROM public.lead_field_data d
        WHERE d.workspace_id = OLD.workspace_id AND d.form_field_id = OLD.id;
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER clear_form_field BEFORE DELETE ON form_fields FOR EACH ROW EXECUTE FUNCTION clear_form_field();

-- A version is what runs were started with; only the workflow's own deletion takes it away.
CREATE FUNCTION keep_workflow_versions() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND pg_trigger_depth() > 1
       AND to_jsonb(NEW) = to_jsonb(OLD) || '{"published_by": null}'::jsonb THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' AND NOT EXISTS (
        SELECT FROM public.workflows w WHERE w.workspace_id = OLD.workspace_id AND w.id = OLD.workflow_id) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'workflow_versions never change' USING ERRCODE = 'restrict_violation', TABLE = 'workflow_versions';
END $$;

CREATE TRIGGER keep_workflow_versions BEFORE UPDATE OR DELETE ON workflow_versions
    FOR EACH ROW EXECUTE FUNCTION keep_workflow_versions();
CREATE TRIGGER keep_workflow_versions_truncate BEFORE TRUNCATE ON workflow_versions
    FOR EACH STATEMENT EXECUTE FUNCTION keep_workflow_versions();

-- A plan is a promise to those who bought it: it may be retired, not changed.
CREATE FUNCTION keep_subscription_plans() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF to_jsonb(NEW) - 'retired_at' = to_jsonb(OLD) - 'retired_at' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'subscription_plans never change: make a new version'
        USING ERRCODE = 'restrict_violation', TABLE = 'subscription_plans';
END $$;

CREATE TRIGGER keep_subscription_plans BEFORE UPDATE ON subscription_plans
    FOR EACH ROW EXECUTE FUNCTION keep_subscription_plans();
