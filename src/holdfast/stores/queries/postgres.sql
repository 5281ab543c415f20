-- Every statement that runs on a Postgres store. Each begins with `-- name: what it is for`; $1, $2 … are its
-- arguments in order. Where the store's schema has another name, that name stands in place of `holdfast`. What is written
-- is durable before it is acknowledged, also where `synchronous_commit` is off for the sake of others: functions turn it on
-- for their transaction, and so does each other write in what it returns, which only one that wrote something gets to.

-- append: Many appends at once; see the function. A row comes back for each that is refused.
SELECT item, stands_at, belongs_to
FROM holdfast.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- append_and_take: The same, for appends of which some take letters: letter $15[n] with append $14[n].
SELECT item, stands_at, belongs_to
FROM holdfast.append_and_take($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);

-- append_and_enter: One append that takes letters and changes accounts; see the function, whose errors refuse it.
SELECT item, stands_at, belongs_to
FROM holdfast.append_and_enter(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20
);

-- claim: A new epoch, above all before it, held for $3 seconds in the name of $2. No row comes back for an unknown
-- session, nor while somebody else holds it.
UPDATE holdfast.sessions
SET epoch = epoch + 1, owner = $2, held_until = clock_timestamp() + $3::double precision * interval '1 second'
WHERE id = $1 AND (held_until IS NULL OR held_until <= clock_timestamp() OR owner = $2)
RETURNING
    epoch,
    CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END;

-- holder: Who holds a session, and for how many more seconds, to say why a claim was refused.
SELECT owner, extract(epoch FROM held_until - clock_timestamp())::double precision AS seconds
FROM holdfast.sessions
WHERE id = $1;

-- stand_still: Wait for who is writing to this session just now, and let nobody else until the transaction ends.
SELECT FROM holdfast.sessions WHERE id = $1 FOR UPDATE;

-- renew: Hold for $2 seconds more what $1 holds now. Locked in the order of the ids, as appends do.
WITH held AS (
    SELECT number FROM holdfast.sessions
    WHERE owner = $1 AND held_until > clock_timestamp()
    ORDER BY id
    FOR UPDATE
)
UPDATE holdfast.sessions AS kept
SET held_until = clock_timestamp() + $2::double precision * interval '1 second'
FROM held
WHERE kept.number = held.number
RETURNING CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END;

-- due: Sessions that nobody holds: those that were due by $1, the longest due first, and those with letters.
SELECT id
FROM (
    (
        SELECT id, due, number
        FROM holdfast.sessions
        WHERE due <= $1 AND (held_until IS NULL OR held_until <= clock_timestamp())
        ORDER BY due, number
        LIMIT $2
    )
    UNION ALL
    SELECT id, due, number
    FROM holdfast.sessions
    WHERE number IN (SELECT session FROM holdfast.letters) AND (due IS NULL OR due > $1)
      AND (held_until IS NULL OR held_until <= clock_timestamp())
) AS found
ORDER BY due NULLS LAST, number
LIMIT $2;

-- post: A letter; see the function. False comes back for an unknown session.
SELECT holdfast.post($1, $2, $3) AS known;

-- letters: Those of a session that nobody has taken yet, the oldest first.
SELECT letters.number, letters.body
FROM holdfast.letters
JOIN holdfast.sessions AS kept ON kept.number = letters.session
WHERE kept.id = $1
ORDER BY letters.number;

-- posted: Sessions with letters that nobody but $1 holds.
SELECT id
FROM holdfast.sessions
WHERE number IN (SELECT session FROM holdfast.letters)
  AND (owner = $1 OR held_until IS NULL OR held_until <= clock_timestamp())
ORDER BY number;

-- owners: Those who hold a session now.
SELECT DISTINCT owner FROM holdfast.sessions WHERE owner > '' AND held_until > clock_timestamp();

-- discard: Letters $3 to a session are gone if its epoch is $2. Its epoch comes back, and nobody claims it meanwhile.
WITH standing AS MATERIALIZED (
    SELECT number, epoch FROM holdfast.sessions WHERE id = $1 FOR SHARE
), gone AS (
    DELETE FROM holdfast.letters AS kept
    USING standing
    WHERE kept.session = standing.number AND standing.epoch = $2 AND kept.number = ANY($3::bigint[])
    RETURNING CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
)
SELECT epoch FROM standing;

-- read: A session's events above a sequence, in order; first the event of that sequence, without its body.
SELECT events.sequence, events.chain, CASE WHEN events.sequence > $2 THEN events.body END AS body
FROM holdfast.events
JOIN holdfast.sessions AS kept ON kept.number = events.session
WHERE kept.id = $1 AND events.sequence >= $2
ORDER BY events.sequence
LIMIT $3;

-- event: The body of one event.
SELECT events.body
FROM holdfast.events
JOIN holdfast.sessions AS kept ON kept.number = events.session
WHERE kept.id = $1 AND events.sequence = $2;

-- head: Where a session stands.
SELECT id, sequence, epoch, created_at, updated_at FROM holdfast.sessions WHERE id = $1;

-- heads: Sessions, the most recently written first; at the same instant, the one created later.
SELECT id, sequence, epoch, created_at, updated_at
FROM holdfast.sessions
ORDER BY updated_at DESC, number DESC
LIMIT $1 OFFSET $2;

-- save: A snapshot, unless a newer one is there or the session is unknown.
INSERT INTO holdfast.snapshots AS kept (session, sequence, version, body)
SELECT number, $2, $3, $4 FROM holdfast.sessions WHERE id = $1
ON CONFLICT (session) DO UPDATE
SET sequence = excluded.sequence, version = excluded.version, body = excluded.body
WHERE kept.sequence <= excluded.sequence
RETURNING CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END;

-- load: A session's snapshot.
SELECT snapshots.sequence, snapshots.version, snapshots.body
FROM holdfast.snapshots
JOIN holdfast.sessions AS kept ON kept.number = snapshots.session
WHERE kept.id = $1;

-- keep: A blob, unless it is there. One whose bytes are not those of its digest any more is mended.
WITH kept AS (
    INSERT INTO holdfast.blobs (digest, data) VALUES ($1, $2) ON CONFLICT DO NOTHING
    RETURNING CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
), mended AS (
    UPDATE holdfast.blobs SET data = $2 WHERE digest = $1 AND data <> $2
    RETURNING CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
)
SELECT FROM kept, mended;

-- blob: The bytes under a digest.
SELECT data FROM holdfast.blobs WHERE digest = $1;

-- account: What is used and set aside on an account, what was added to ceilings on it, and what has something set aside.
SELECT
    coalesce((SELECT used FROM holdfast.budget_accounts WHERE name = $1), 0)                  AS used,
    coalesce((SELECT raised FROM holdfast.budget_accounts WHERE name = $1), 0)                AS raised,
    coalesce(sum(held.amount), 0)                                                      AS reserved,
    coalesce(array_agg(held.key ORDER BY held.key), '{}')                              AS keys
FROM holdfast.budget_reservations AS held
WHERE held.account = $1;

-- accounts: Those whose names begin with $1, at most $2.
SELECT
    kept.name, kept.used, kept.raised,
    coalesce((SELECT sum(held.amount) FROM holdfast.budget_reservations AS held WHERE held.account = kept.name), 0) AS reserved
FROM holdfast.budget_accounts AS kept
WHERE kept.name >= $1 AND kept.name < $1 || chr(1114111)
ORDER BY kept.name
LIMIT $2;

-- holding: Accounts behind $2 on which something is set aside under a key that begins with $1, at most $3, with these.
SELECT
    found.account, coalesce(kept.used, 0) AS used, coalesce(kept.raised, 0) AS raised, found.keys,
    (SELECT sum(held.amount) FROM holdfast.budget_reservations AS held WHERE held.account = found.account) AS reserved
FROM (
    SELECT held.account, array_agg(held.key ORDER BY held.key) AS keys
    FROM holdfast.budget_reservations AS held
    WHERE held.account > $2 AND held.key >= $1 AND held.key < $1 || chr(1114111)
    GROUP BY held.account
    ORDER BY held.account
    LIMIT $3
) AS found
LEFT JOIN holdfast.budget_accounts AS kept ON kept.name = found.account
ORDER BY found.account;

-- enter: Entries by themselves; see the function.
SELECT holdfast.enter($1, $2, $3, $4, $5);

-- raise_account: Add $2 to ceilings on the account $1, unless that was done under the token $3.
WITH fresh AS (
    INSERT INTO holdfast.received (token, received_at) VALUES ($3, clock_timestamp()) ON CONFLICT DO NOTHING
    RETURNING token
)
INSERT INTO holdfast.budget_accounts AS kept (name, raised)
VALUES ($1, CASE WHEN EXISTS (SELECT FROM fresh) THEN $2::numeric ELSE 0 END)
ON CONFLICT (name) DO UPDATE SET raised = kept.raised + excluded.raised
RETURNING
    raised,
    CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END;

-- enlist: What became of an agent or a harness. What is deleted stays so, and then no row comes back.
INSERT INTO holdfast.roster AS kept (kind, name, status, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (kind, name) DO UPDATE SET status = excluded.status, body = excluded.body WHERE kept.status <> 'deleted'
RETURNING
    kind,
    CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END;

-- roster: What became of all of them.
SELECT body FROM holdfast.roster ORDER BY kind, name;

-- standing: What is in the schema: whether our tables are, and how many tables, indexes and views in all; and what the
-- server is like.
SELECT
    to_regnamespace('holdfast') IS NOT NULL                                                  AS there,
    to_regclass('holdfast.holdfast_migrations') IS NOT NULL                                  AS ours,
    (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('holdfast'))         AS relations,
    current_setting('server_encoding')                                                       AS encoding,
    current_setting('fsync') = 'on'                                                          AS syncs;

-- alone: Nobody else creates or migrates this schema until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('holdfast migrations of ' || 'holdfast', 0));

-- found: The schema.
CREATE SCHEMA holdfast;

-- begin: What was done to the schema, which also marks it as ours.
CREATE TABLE holdfast.holdfast_migrations (
    number  integer PRIMARY KEY,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- version: Of our tables.
SELECT coalesce(max(number), 0) FROM holdfast.holdfast_migrations;

-- migrated: The tables now have this version.
INSERT INTO holdfast.holdfast_migrations (number) VALUES ($1);
