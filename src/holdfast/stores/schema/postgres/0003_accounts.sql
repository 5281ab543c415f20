-- Accounts. Where the store's schema has another name, that name stands in place of `holdfast`.

-- What many sessions share and use up: an account for each principal or organisation, quantity and window.
CREATE TABLE holdfast.budget_accounts (
    name   text COLLATE "C" PRIMARY KEY,
    used   numeric NOT NULL DEFAULT 0,
    raised numeric NOT NULL DEFAULT 0  -- what was added to every ceiling on it
);

-- What is set aside on an account for something that is under way, until what it used is known.
CREATE TABLE holdfast.budget_reservations (
    account text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    amount  numeric NOT NULL,
    PRIMARY KEY (account, key)
);

-- Accounts, made where they are missing, and locked in the order of their names until the transaction ends.
CREATE FUNCTION holdfast.lock_accounts(names text[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO holdfast.budget_accounts (name)
    SELECT DISTINCT asked.name FROM unnest(names) AS asked (name) ORDER BY 1
    ON CONFLICT DO NOTHING;
    PERFORM FROM holdfast.budget_accounts AS kept WHERE kept.name = ANY (names) ORDER BY kept.name FOR UPDATE;
END
$$;

-- Entries on accounts, one after another; the error HF001 when an account has no room for one.
CREATE FUNCTION holdfast.enter(
    kinds text[], accounts text[], keys text[], amounts numeric[], ceilings numeric[]
) RETURNS void
LANGUAGE plpgsql
SET lock_timeout = '5s'
AS $$
#variable_conflict use_column
DECLARE
    entry record;
    total numeric;
    most  numeric;
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN  -- durable before acknowledged, whatever others need
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM holdfast.lock_accounts(accounts);

    FOR entry IN
        SELECT * FROM unnest(kinds, accounts, keys, amounts, ceilings)
        WITH ORDINALITY AS a (kind, account, key, amount, ceiling, place) ORDER BY a.place
    LOOP
        IF entry.kind = 'settle' THEN
            DELETE FROM holdfast.budget_reservations AS kept WHERE kept.account = entry.account AND kept.key = entry.key;
            CONTINUE WHEN NOT FOUND;
        ELSIF entry.kind = 'reserve' AND EXISTS (
            SELECT FROM holdfast.budget_reservations AS kept WHERE kept.account = entry.account AND kept.key = entry.key
        ) THEN
            CONTINUE;
        ELSIF entry.ceiling IS NOT NULL THEN
            SELECT kept.used + coalesce(
                (SELECT sum(held.amount) FROM holdfast.budget_reservations AS held WHERE held.account = entry.account), 0
            ), kept.raised + entry.ceiling INTO total, most
            FROM holdfast.budget_accounts AS kept WHERE kept.name = entry.account;
            IF total + entry.amount > most OR (entry.amount = 0 AND total >= most) THEN
                RAISE EXCEPTION USING ERRCODE = 'HF001', MESSAGE = 'no room', DETAIL =
                    json_build_array(entry.account, most::text, total::text, entry.amount::text)::text;
            END IF;
        END IF;
        IF entry.kind = 'reserve' THEN
            INSERT INTO holdfast.budget_reservations (account, key, amount) VALUES (entry.account, entry.key, entry.amount);
        ELSE
            UPDATE holdfast.budget_accounts AS kept SET used = kept.used + entry.amount WHERE kept.name = entry.account;
        END IF;
    END LOOP;
END
$$;

-- One append, as `append_and_take` takes many, with entries on accounts: everything, or nothing. Why it is refused is an
-- error: HF001 for an account without room for an entry, HF002 for where the session stands. The detail says it.
--
-- Accounts are locked first, in the order of their names, and then the session: nobody locks them the other way round.
CREATE FUNCTION holdfast.append_and_enter(
    ids text[], expected bigint[], epochs bigint[], lasts bigint[], created bigint[], updated bigint[],
    owners text[], holds double precision[], dues bigint[], again boolean[],
    items bigint[], sequences bigint[], bodies bytea[], takers bigint[], taken bigint[],
    kinds text[], accounts text[], keys text[], amounts numeric[], ceilings numeric[]
) RETURNS TABLE (item bigint, stands_at bigint, belongs_to bigint)  -- no row: it went well
LANGUAGE plpgsql
SET lock_timeout = '5s'
AS $$
#variable_conflict use_column
DECLARE
    stands  record;
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN  -- durable before acknowledged, whatever others need
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    PERFORM holdfast.lock_accounts(accounts);

    -- Sent a second time, because the answer to the first was lost: the entries were made with the events.
    IF again[1] AND EXISTS (
        SELECT FROM holdfast.sessions AS kept
        JOIN holdfast.events ON events.session = kept.number
        WHERE kept.id = ids[1] AND events.sequence = sequences[1] AND events.body = bodies[1]
    ) THEN
        RETURN;
    END IF;

    -- Whoever is not the writer any more is told that, and not what is left.
    SELECT kept.sequence AS stands_at, kept.epoch AS belongs_to INTO stands
    FROM holdfast.sessions AS kept WHERE kept.id = ids[1];
    IF (coalesce(stands.stands_at, 0), coalesce(stands.belongs_to, 1)) <> (expected[1], epochs[1]) THEN
        RAISE EXCEPTION USING ERRCODE = 'HF002', MESSAGE = 'refused', DETAIL =
            json_build_array(stands.stands_at, stands.belongs_to)::text;
    END IF;

    PERFORM holdfast.enter(kinds, accounts, keys, amounts, ceilings);

    FOR stands IN
        SELECT * FROM holdfast.append_and_take(
            ids, expected, epochs, lasts, created, updated, owners, holds, dues, again, items, sequences, bodies,
            takers, taken
        )
    LOOP
        RAISE EXCEPTION USING ERRCODE = 'HF002', MESSAGE = 'refused', DETAIL =
            json_build_array(stands.stands_at, stands.belongs_to)::text;
    END LOOP;
END
$$;
