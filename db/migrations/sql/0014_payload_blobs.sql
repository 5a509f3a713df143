-- What is too large for Temporal's histories (ADR 0023): a payload as it is encrypted, under an address that only
-- its workspace's key can work out. It belongs to one execution and goes with it; Temporal keeps the address.
CREATE TABLE payload_blobs (
    workspace_id uuid NOT NULL,
    execution_id uuid NOT NULL,
    address bytea NOT NULL,
    content bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payload_blobs_pkey PRIMARY KEY (workspace_id, execution_id, address),
    CONSTRAINT payload_blobs_execution_id_fkey FOREIGN KEY (workspace_id, execution_id)
        REFERENCES workflow_executions (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT payload_blobs_address_check CHECK (octet_length(address) = 32)
);
-- It is compressed already, as far as it can be.
ALTER TABLE payload_blobs ALTER COLUMN content SET STORAGE EXTERNAL;

SELECT guard_tenant('public.payload_blobs'::regclass);
-- What stands under an address never changes.
GRANT SELECT, INSERT, DELETE ON payload_blobs TO flowtrack_app;

-- Tells of which executions that have been over for so long there are blobs, by id.
CREATE FUNCTION door_ended_with_blobs(p_for interval, p_after uuid, p_limit integer)
RETURNS TABLE (workspace_id uuid, execution_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.workspace_id, e.id FROM public.workflow_executions e
    JOIN (SELECT DISTINCT b.workspace_id, b.execution_id FROM public.payload_blobs b) AS kept
        ON kept.workspace_id = e.workspace_id AND kept.execution_id = e.id
    WHERE e.id > p_after AND e.status IN ('completed', 'failed', 'cancelled')
      AND greatest(e.finished_at, e.updated_at) < clock_timestamp() - p_for
    ORDER BY e.id LIMIT p_limit
$$;

-- Counts what lies there, for the operator; the sizes are read without the bytes.
CREATE FUNCTION door_blob_totals() RETURNS TABLE (blobs bigint, bytes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), coalesce(sum(octet_length(b.content)), 0)::bigint FROM public.payload_blobs b
$$;

REVOKE ALL ON FUNCTION door_ended_with_blobs, door_blob_totals FROM PUBLIC;
GRANT EXECUTE ON FUNCTION door_ended_with_blobs, door_blob_totals TO flowtrack_app;
