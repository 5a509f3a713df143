-- A run keeps rows in a dozen tables; what each of them and its indexes weigh is counted in tests/budgets.

-- A key is what it names. Expired ones are purged daily by one scan.
DROP INDEX idempotency_keys_expires_at;
ALTER TABLE idempotency_keys
    DROP CONSTRAINT idempotency_keys_pkey,
    DROP CONSTRAINT idempotency_keys_scope_idempotency_key_key,
    DROP COLUMN id, DROP COLUMN created_at, DROP COLUMN updated_at,
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (workspace_id, scope, idempotency_key);

CREATE OR REPLACE FUNCTION door_purge_idempotency_keys(p_limit integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM public.idempotency_keys WHERE (workspace_id, scope, idempotency_key) IN (
            SELECT k.workspace_id, k.scope, k.idempotency_key FROM public.idempotency_keys k
            WHERE k.expires_at < now() LIMIT p_limit)
        RETURNING 1)
    SELECT count(*) FROM gone
$$;

-- One cursor for each execution, as the mirror always kept it.
ALTER TABLE mirror_cursors
    DROP CONSTRAINT mirror_cursors_pkey,
    DROP CONSTRAINT mirror_cursors_run_id_key,
    DROP COLUMN id, DROP COLUMN created_at, DROP COLUMN updated_at,
    ADD CONSTRAINT mirror_cursors_pkey PRIMARY KEY (workspace_id, execution_id);

ALTER TABLE effects
    DROP CONSTRAINT effects_pkey,
    DROP CONSTRAINT effects_effect_key,
    ADD CONSTRAINT effects_pkey PRIMARY KEY (workspace_id, execution_id, node_id, visit, effect);

-- A step's id is made of execution, node and visit: that it is unique says the same of them. Equal entries of
-- an index are stored once, so one by execution alone is a tenth of one by execution and node.
ALTER TABLE execution_steps DROP CONSTRAINT execution_steps_visit_key;
CREATE INDEX execution_steps_execution_id ON execution_steps (workspace_id, execution_id);

DROP INDEX execution_logs_execution_id;
CREATE INDEX execution_logs_execution_id ON execution_logs (workspace_id, execution_id);

DROP INDEX usage_events_event_type;
CREATE INDEX usage_events_event_type ON usage_events (workspace_id, event_type);
