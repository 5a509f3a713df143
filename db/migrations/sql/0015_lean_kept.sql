-- What a run keeps: each index has a reader, each row holds nothing that another one tells (ADR 0024). Columns are
-- dropped, never rewritten: what is locked is locked for as long as an index takes to be built.

-- An answer is known by its lead and its question, and nobody asks when it was given: its event tells that.
ALTER TABLE lead_field_data
    DROP CONSTRAINT lead_field_data_pkey,
    DROP CONSTRAINT lead_field_data_form_field_id_key,
    DROP COLUMN created_at, DROP COLUMN updated_at,
    ADD CONSTRAINT lead_field_data_pkey PRIMARY KEY (workspace_id, lead_id, form_field_id);

-- One index for "whose address is this" within a workflow and across them; equal entries of the other are stored once.
ALTER TABLE leads
    DROP CONSTRAINT leads_workflow_id_email_key,
    ADD CONSTRAINT leads_workflow_id_email_key UNIQUE (workspace_id, email, workflow_id);
DROP INDEX leads_email;
CREATE INDEX leads_workflow_id ON leads (workspace_id, workflow_id);

DROP INDEX lead_events_lead_id;
CREATE INDEX lead_events_lead_id ON lead_events (workspace_id, lead_id);

DROP INDEX workflow_executions_status;
CREATE INDEX workflow_executions_status ON workflow_executions (workspace_id, status, id)
    WHERE status <> 'completed';
DROP INDEX workflow_executions_lead_id;
CREATE INDEX workflow_executions_lead_id ON workflow_executions (workspace_id, lead_id) WHERE lead_id IS NOT NULL;

-- When a step was decided and its row written last nobody reads; when it began and ended stands beside.
ALTER TABLE execution_steps DROP COLUMN created_at, DROP COLUMN updated_at;

-- What the steps of a version's nodes have in common is kept once with the version; of older ones each step has it all.
ALTER TABLE workflow_versions ADD COLUMN inputs jsonb;

-- One index for a run's lines in their order, instead of one by time and one by run.
DROP INDEX execution_logs_execution_id;
ALTER TABLE execution_logs
    DROP CONSTRAINT execution_logs_pkey,
    ADD CONSTRAINT execution_logs_pkey PRIMARY KEY (workspace_id, execution_id, created_at, id);

-- What guards a run while Temporal can carry it out again: the keys of its effects and how far it is mirrored. Whoever
-- calls says when no history of that time is left. What nobody knows the outcome of stays, to be seen.
CREATE FUNCTION door_forget_runs(p_ended_before timestamptz, p_before uuid, p_limit integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH over AS MATERIALIZED (
        SELECT found.workspace_id, found.execution_id FROM public.workspaces w CROSS JOIN LATERAL (
            SELECT c.workspace_id, c.execution_id FROM public.mirror_cursors c
            JOIN public.workflow_executions e ON e.workspace_id = c.workspace_id AND e.id = c.execution_id
            WHERE c.workspace_id = w.id AND c.execution_id < p_before AND c.closed AND e.finished_at < p_ended_before
            LIMIT p_limit) AS found
        LIMIT p_limit),
    done AS (
        DELETE FROM public.effects f USING over o
        WHERE f.workspace_id = o.workspace_id AND f.execution_id = o.execution_id
          AND f.status IN ('confirmed', 'released')),
    gone AS (
        DELETE FROM public.mirror_cursors c USING over o
        WHERE c.workspace_id = o.workspace_id AND c.execution_id = o.execution_id RETURNING 1)
    SELECT count(*) FROM gone
$$;
REVOKE ALL ON FUNCTION door_forget_runs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION door_forget_runs TO flowtrack_app;

-- What is only ever added, by ids that grow, leaves no page that something would be put between.
ALTER INDEX usage_events_pkey SET (fillfactor = 100);
ALTER INDEX lead_events_pkey SET (fillfactor = 100);
ALTER INDEX lead_field_data_pkey SET (fillfactor = 100);
ALTER INDEX execution_steps_execution_id SET (fillfactor = 100);
