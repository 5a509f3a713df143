-- The keys under which a workspace's payloads lie in Temporal, sealed by the master key (ADR 0020). One of a
-- workspace is current and writes; those before it still read. With the workspace they go, and with them all that
-- Temporal keeps of it.
CREATE TABLE payload_keys (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    key_sealed bytea NOT NULL,
    retired_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payload_keys_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT payload_keys_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX payload_keys_current ON payload_keys (workspace_id) WHERE retired_at IS NULL;
CREATE UNIQUE INDEX door_payload_keys_id ON payload_keys (id);

SELECT guard_tenant('public.payload_keys'::regclass);
-- A key that is gone makes histories unreadable for ever: only its workspace takes it along.
GRANT SELECT, INSERT, UPDATE (retired_at) ON payload_keys TO flowtrack_app;

CREATE FUNCTION door_payload_key(p_key_id uuid) RETURNS TABLE (workspace_id uuid, id uuid, key_sealed bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.workspace_id, k.id, k.key_sealed FROM public.payload_keys k WHERE k.id = p_key_id
$$;

REVOKE ALL ON FUNCTION door_payload_key(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION door_payload_key(uuid) TO flowtrack_app;
