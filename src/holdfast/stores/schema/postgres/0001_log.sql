-- Sessions with their leases, their events, snapshots and blobs. Where the store's schema has another name, that name
-- stands in place of `holdfast` when this runs.

-- Where each session's log stands, who may write to it, and when it is owed work. An append moves `sequence` on in
-- the transaction that writes the events; until that commits the row is locked, so the numbers have no gaps and
-- become visible in their order. Most appends touch no indexed column, and the room left in each page takes their
-- new version.
CREATE TABLE holdfast.sessions (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         text COLLATE "C" NOT NULL UNIQUE,  -- with \\ for \ and \0 for NUL, which text cannot hold
    sequence   bigint NOT NULL,                   -- of its last event
    epoch      bigint NOT NULL,                   -- of the writer that may append
    created_at bigint NOT NULL,                   -- microseconds since 1970, UTC
    updated_at bigint NOT NULL,
    owner      text   NOT NULL,                   -- of the lease; empty when there is none, or nobody said
    held_until timestamptz,                       -- by this server's clock; null when nobody holds the session
    due        bigint                             -- microseconds since 1970, UTC; null when nothing is owed
) WITH (fillfactor = 70);

CREATE INDEX sessions_owner ON holdfast.sessions (owner);
CREATE INDEX sessions_due ON holdfast.sessions (due) WHERE due IS NOT NULL;

-- Bodies are bytes, not jsonb: jsonb refuses \u0000 and forgets how a number was written.
CREATE TABLE holdfast.events (
    session  bigint NOT NULL,  -- sessions.number
    sequence bigint NOT NULL,
    chain    bytea  NOT NULL,  -- 16 bytes of SHA-256 over the chain of the event before (at first: over the id), and body
    body     bytea  NOT NULL,  -- the whole event, as JSON in UTF-8
    PRIMARY KEY (session, sequence)
);

-- One a session, to save folding its events. Never the truth.
CREATE TABLE holdfast.snapshots (
    session  bigint PRIMARY KEY,  -- sessions.number
    sequence bigint NOT NULL,     -- of the last event folded into it
    version  bigint NOT NULL,
    body     bytea  NOT NULL
);

-- Large values, by content: the same bytes are kept once.
CREATE TABLE holdfast.blobs (
    digest text COLLATE "C" PRIMARY KEY,  -- 'sha256:' and 64 hex digits
    data   bytea NOT NULL
);

-- For people: SELECT * FROM holdfast.log WHERE session_id = '…';
CREATE VIEW holdfast.log AS
SELECT
    kept.id                                      AS session_id,
    events.sequence                              AS sequence,
    convert_from(events.body, 'UTF8')::json ->> 'ts'   AS ts,
    convert_from(events.body, 'UTF8')::json ->> 'type' AS type,
    convert_from(events.body, 'UTF8')::json ->  'data' AS data,
    encode(events.chain, 'hex')                  AS chain
FROM holdfast.sessions AS kept
JOIN holdfast.events ON events.session = kept.number;

-- Many appends of many sessions in one transaction and one round trip. Each is judged on its own, in the order given;
-- a row comes back for each that is refused, with where its session stands (null when there is none). Callers give
-- the sessions in the order of their ids, so that two of them can never wait for each other.
--
-- An append sent a second time, because the answer to the first was lost, is marked `again`: when its events are
-- found in place it went well the first time, and is not refused.
CREATE FUNCTION holdfast.append(
    ids text[], expected bigint[], epochs bigint[], lasts bigint[], created bigint[], updated bigint[],
    owners text[], holds double precision[], dues bigint[], again boolean[],
    items bigint[], sequences bigint[], bodies bytea[]  -- the events, each with the number of its append (from 1)
) RETURNS TABLE (item bigint, stands_at bigint, belongs_to bigint)
LANGUAGE plpgsql
SET lock_timeout = '5s'
AS $$
#variable_conflict use_column
DECLARE
    asked   record;
    stands  record;
    written bigint;
    session bigint;
    link    bytea;
    numbers bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(ids)]);  -- of each append's session
    links   bytea[]  := array_fill(NULL::bytea, ARRAY[cardinality(ids)]);   -- the chain that each append follows
    chains  bytea[]  := array_fill(NULL::bytea, ARRAY[cardinality(items)]); -- up to each event
    content bytea[]  := bodies;  -- a variable of its own: in an argument, finding an element takes as long as it is far
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN  -- durable before acknowledged, whatever others need
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    FOR asked IN
        SELECT * FROM unnest(ids, expected, epochs, lasts, created, updated, owners, holds, dues, again)
        WITH ORDINALITY AS a (id, expected, epoch, last, created, updated, owner, hold, due, again, item)
    LOOP
        written := NULL;
        IF asked.expected = 0 AND asked.epoch = 1 THEN
            INSERT INTO holdfast.sessions AS kept
                (id, sequence, epoch, created_at, updated_at, owner, held_until, due)
            VALUES (
                asked.id, asked.last, asked.epoch, asked.created, asked.updated,
                asked.owner, clock_timestamp() + asked.hold * interval '1 second', asked.due
            )
            ON CONFLICT DO NOTHING
            RETURNING kept.number INTO written;
            link := substring(sha256(convert_to(asked.id, 'UTF8')) FOR 16);
        ELSE
            UPDATE holdfast.sessions AS kept
            SET sequence = asked.last, updated_at = asked.updated, owner = asked.owner,
                held_until = clock_timestamp() + asked.hold * interval '1 second', due = asked.due
            WHERE kept.id = asked.id AND kept.sequence = asked.expected AND kept.epoch = asked.epoch
            RETURNING kept.number, (
                SELECT events.chain FROM holdfast.events
                WHERE events.session = kept.number AND events.sequence = asked.expected
            ) INTO written, link;
        END IF;
        numbers[asked.item] := written;
        links[asked.item] := link;
        CONTINUE WHEN written IS NOT NULL;

        SELECT kept.number, kept.sequence, kept.epoch INTO stands
        FROM holdfast.sessions AS kept WHERE kept.id = asked.id;
        CONTINUE WHEN asked.again AND EXISTS (
            SELECT FROM unnest(items, sequences, bodies) AS sent (item, sequence, body)
            JOIN holdfast.events AS kept
                ON kept.session = stands.number AND kept.sequence = sent.sequence AND kept.body = sent.body
            WHERE sent.item = asked.item AND sent.sequence = asked.expected + 1
        );
        item := asked.item;
        stands_at := stands.sequence;
        belongs_to := stands.epoch;
        RETURN NEXT;
    END LOOP;

    -- Each event's chain. The appends of one session stand side by side; what the first of them follows was found above.
    FOR place IN 1 .. cardinality(items) LOOP
        CONTINUE WHEN numbers[items[place]] IS NULL;
        IF numbers[items[place]] IS DISTINCT FROM session THEN
            session := numbers[items[place]];
            link := links[items[place]];
            IF link IS NULL THEN
                RAISE EXCEPTION USING ERRCODE = 'data_corrupted', MESSAGE =
                    format('event %s of %s is missing', sequences[place] - 1, ids[items[place]]);
            END IF;
        END IF;
        link := substring(sha256(link || content[place]) FOR 16);
        chains[place] := link;
    END LOOP;

    INSERT INTO holdfast.events (session, sequence, chain, body)
    SELECT numbers[sent.item], sent.sequence, sent.chain, sent.body
    FROM unnest(items, sequences, chains, bodies) AS sent (item, sequence, chain, body)
    WHERE numbers[sent.item] IS NOT NULL;

    PERFORM pg_notify('holdfast', a.id || ':' || max(a.last))
    FROM unnest(ids, lasts) WITH ORDINALITY AS a (id, last, item)
    WHERE numbers[a.item] IS NOT NULL
    GROUP BY a.id;
END
$$;
