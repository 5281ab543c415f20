-- Letters to sessions. Where the store's schema has another name, that name stands in place of `holdfast`.

-- Facts that somebody else than its writer wants recorded in a session, until the writer has dealt with them.
CREATE TABLE holdfast.letters (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session bigint NOT NULL,  -- sessions.number
    body    bytea  NOT NULL   -- the event, with sequence 0, as JSON in UTF-8
);

CREATE INDEX letters_session ON holdfast.letters (session);

-- Letters that came within the last hour, by the token that each was given, so that one sent a second time because the
-- answer to the first was lost is not there twice. This outlives the letter, which may have been taken by then.
CREATE TABLE holdfast.received (
    token       uuid PRIMARY KEY,
    received_at timestamptz NOT NULL
);

CREATE INDEX received_at ON holdfast.received (received_at);

-- A letter to a session, and a word to whoever listens; false when there is no such session. It locks nothing that an
-- append or a claim needs.
CREATE FUNCTION holdfast.post(session_id text, letter uuid, event bytea) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '5s'
AS $$
DECLARE
    stands record;
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN  -- durable before acknowledged, whatever others need
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    SELECT number, sequence INTO stands FROM holdfast.sessions WHERE id = session_id;
    IF stands.number IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO holdfast.received (token, received_at) VALUES (letter, clock_timestamp()) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    INSERT INTO holdfast.letters (session, body) VALUES (stands.number, event);
    PERFORM pg_notify('holdfast', session_id || ':' || stands.sequence);

    DELETE FROM holdfast.received WHERE token IN (
        SELECT token FROM holdfast.received
        WHERE received_at < clock_timestamp() - interval '1 hour'
        LIMIT 10
        FOR UPDATE SKIP LOCKED
    );
    RETURN true;
END
$$;

-- Many appends, as `append` takes them, of which some take letters: letter `taken[n]` goes with append `takers[n]`, if
-- it is one to the same session and the append is not refused.
CREATE FUNCTION holdfast.append_and_take(
    ids text[], expected bigint[], epochs bigint[], lasts bigint[], created bigint[], updated bigint[],
    owners text[], holds double precision[], dues bigint[], again boolean[],
    items bigint[], sequences bigint[], bodies bytea[], takers bigint[], taken bigint[]
) RETURNS TABLE (item bigint, stands_at bigint, belongs_to bigint)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    refused bigint[] := '{}';
BEGIN
    FOR item, stands_at, belongs_to IN
        SELECT found.item, found.stands_at, found.belongs_to
        FROM holdfast.append(
            ids, expected, epochs, lasts, created, updated, owners, holds, dues, again, items, sequences, bodies
        ) AS found
    LOOP
        refused := refused || item;
        RETURN NEXT;
    END LOOP;

    DELETE FROM holdfast.letters AS kept
    USING unnest(takers, taken) AS asked (item, number), holdfast.sessions AS addressed
    WHERE kept.number = asked.number AND NOT asked.item = ANY (refused)
      AND addressed.number = kept.session AND addressed.id = ids[asked.item];
END
$$;
