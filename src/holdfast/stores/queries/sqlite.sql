-- Every statement that runs on a SQLite store. Each begins with `-- name: what it is for`; ?1, ?2 … are its
-- arguments in order. Bodies are bound and fetched as bytes (CAST), which saves decoding and encoding them, and
-- stored as text, which keeps them readable.

-- create: A session's row, for its first append. No row comes back when there is one already: refused.
INSERT INTO sessions (id, sequence, epoch, created_at, updated_at, due_at, held_by, held_until, held_boot)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT DO NOTHING
RETURNING number;

-- follow: What an append follows, if the session stands where the writer thinks and the writer is still the one: the
-- chain up to there, and whether the columns of the index `busy` stay as they are. No row comes back otherwise: refused.
-- Whether the writer's lease ran out does not matter here: the epoch decides. A join would be planned anew each time.
SELECT
    number, (SELECT chain FROM events WHERE key = (number << 32) + ?2), due_at IS ?4 AND held_by IS ?5 AND held_boot IS ?6
FROM sessions
WHERE id = ?1 AND sequence = ?2 AND epoch = ?3;

-- advance: Move a session on for an append, where nothing of that index changes.
UPDATE sessions SET sequence = ?2, updated_at = ?3, held_until = ?4 WHERE number = ?1;

-- advance_anew: The same, where something does.
UPDATE sessions
SET sequence = ?2, updated_at = ?3, held_until = ?4, due_at = ?5, held_by = ?6, held_boot = ?7
WHERE number = ?1;

-- add: One event. The key cannot be taken: the session's row is at this transaction's disposal.
INSERT INTO events (key, chain, body) VALUES (?1, ?2, CAST(?3 AS TEXT));

-- claim: A new epoch, above all before it, and the lease ?2 to ?4, for ?5 at the moment ?6 since the start ?7.
-- No row comes back for an unknown session, or while another owner's lease runs.
UPDATE sessions
SET epoch = epoch + 1, held_by = ?2, held_until = ?3, held_boot = ?4
WHERE id = ?1 AND (held_by IS NULL OR held_by = ?5 OR held_until <= ?6 OR held_boot <> ?7)
RETURNING epoch;

-- holder: Whose lease keeps a session from being claimed, and when it ends.
SELECT held_by, held_until FROM sessions WHERE id = ?1;

-- renew: The leases of ?1 that have not run out at the moment ?2 since the start ?3 end at ?4 instead.
UPDATE sessions
SET held_until = ?4
WHERE (due_at IS NOT NULL OR held_by IS NOT NULL) AND held_by = ?1 AND held_until > ?2 AND held_boot = ?3;

-- due: Sessions that nobody holds at the moment ?2 since the start ?3: those owed something by ?1, the longest due
-- first, and those with letters.
SELECT id
FROM (
    SELECT * FROM (
        SELECT id, due_at, number
        FROM sessions
        WHERE (due_at IS NOT NULL OR held_by IS NOT NULL) AND due_at <= ?1
          AND (held_by IS NULL OR held_until <= ?2 OR held_boot <> ?3)
        ORDER BY due_at, number
        LIMIT ?4
    )
    UNION ALL
    SELECT id, due_at, number
    FROM sessions
    WHERE number IN (SELECT session FROM letters) AND (due_at IS NULL OR due_at > ?1)
      AND (held_by IS NULL OR held_until <= ?2 OR held_boot <> ?3)
)
ORDER BY due_at NULLS LAST, number
LIMIT ?4;

-- post: A letter. Nothing happens for an unknown session; no row comes back.
INSERT INTO letters (session, body)
SELECT number, CAST(?2 AS TEXT) FROM sessions WHERE id = ?1
RETURNING number;

-- letters: Those of a session that nobody has taken yet, the oldest first.
SELECT number, CAST(body AS BLOB)
FROM letters
WHERE session = (SELECT number FROM sessions WHERE id = ?1)
ORDER BY number;

-- posted: Sessions with letters that nobody but ?1 holds at the moment ?2 since the start ?3.
SELECT id
FROM sessions
WHERE number IN (SELECT session FROM letters)
  AND (held_by IS NULL OR held_by = ?1 OR held_until <= ?2 OR held_boot <> ?3)
ORDER BY number;

-- owners: Those who hold a session at the moment ?1 since the start ?2.
SELECT DISTINCT held_by
FROM sessions
WHERE (due_at IS NOT NULL OR held_by IS NOT NULL) AND held_by > '' AND held_until > ?1 AND held_boot = ?2;

-- take: Letter ?2 is gone, if it is one to the session ?1.
DELETE FROM letters WHERE number = ?2 AND session = (SELECT number FROM sessions WHERE id = ?1);

-- save: A snapshot in place of one that is not newer. Nothing happens for an unknown session or one with a newer snapshot.
INSERT INTO snapshots (number, sequence, version, body)
SELECT number, ?2, ?3, ?4 FROM sessions WHERE id = ?1
ON CONFLICT DO UPDATE SET sequence = excluded.sequence, version = excluded.version, body = excluded.body
WHERE snapshots.sequence <= excluded.sequence;

-- load: The snapshot of a session.
SELECT sequence, version, body FROM snapshots WHERE number = (SELECT number FROM sessions WHERE id = ?1);

-- keep: A blob, unless it is there. One whose bytes are not those of its digest any more is mended.
INSERT INTO blobs (digest, data) VALUES (?1, ?2)
ON CONFLICT DO UPDATE SET data = excluded.data WHERE blobs.data IS NOT excluded.data;

-- standing: Sequence and epoch, to say why an append was refused.
SELECT sequence, epoch FROM sessions WHERE id = ?1;

-- read: A session's events above a sequence, in order; first the event of that sequence, without its body.
SELECT key & 0xffffffff, chain, CASE WHEN key & 0xffffffff > ?2 THEN CAST(body AS BLOB) END
FROM events
WHERE key >= (SELECT number << 32 FROM sessions WHERE id = ?1) + ?2
  AND key < (SELECT (number + 1) << 32 FROM sessions WHERE id = ?1)
ORDER BY key
LIMIT ?3;

-- head: Where a session stands.
SELECT id, sequence, epoch, created_at, updated_at FROM sessions WHERE id = ?1;

-- heads: Sessions, the most recently written first; at the same instant, the one created later.
SELECT id, sequence, epoch, created_at, updated_at
FROM sessions
ORDER BY updated_at DESC, number DESC
LIMIT ?1 OFFSET ?2;

-- blob: The bytes under a digest.
SELECT data FROM blobs WHERE digest = ?1;

-- every_session: For a check: what each row says of its log, and of who holds it.
SELECT number, id, sequence, held_by, held_boot FROM sessions ORDER BY number;

-- every_event: For a check: all events, each session's side by side.
SELECT key >> 32, key & 0xffffffff, chain, CAST(body AS BLOB) FROM events ORDER BY key;

-- every_blob: For a check: all blobs.
SELECT digest, data FROM blobs;

-- early_snapshots: For a check: snapshots of events that their session does not have.
SELECT sessions.id, snapshots.number, snapshots.sequence
FROM snapshots LEFT JOIN sessions USING (number)
WHERE sessions.sequence IS NULL OR snapshots.sequence > sessions.sequence;

-- every_letter: For a check: all letters, and the id of the session that each is for; NULL when there is none.
SELECT letters.number, sessions.id, CAST(letters.body AS BLOB)
FROM letters LEFT JOIN sessions ON sessions.number = letters.session
ORDER BY letters.number;

-- standing_of: What is used of an account, and what was added to ceilings on it.
SELECT used, raised FROM budget_accounts WHERE name = ?1;

-- held: What is set aside on an account, by key.
SELECT key, amount FROM budget_reservations WHERE account = ?1;

-- reserve: Set something aside for a key that has nothing set aside.
INSERT INTO budget_reservations (account, key, amount) VALUES (?1, ?2, ?3);

-- release: Nothing is set aside for this key any more.
DELETE FROM budget_reservations WHERE account = ?1 AND key = ?2;

-- used: So much is used of an account by now.
INSERT INTO budget_accounts (name, used) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET used = excluded.used;

-- raised: So much was added to ceilings on an account by now.
INSERT INTO budget_accounts (name, raised) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET raised = excluded.raised;

-- accounts: Names that begin with ?1.
SELECT name FROM budget_accounts WHERE name >= ?1 AND name < ?1 || char(0x10ffff) ORDER BY name LIMIT ?2;

-- holding: Accounts behind ?2 on which something is set aside under a key that begins with ?1.
SELECT DISTINCT account FROM budget_reservations
WHERE account > ?2 AND key >= ?1 AND key < ?1 || char(0x10ffff) ORDER BY account LIMIT ?3;

-- every_account: For a check: all accounts, and everything set aside on one.
SELECT name, '', used, raised FROM budget_accounts
UNION ALL
SELECT account, key, amount, '0' FROM budget_reservations;

-- enlist: What became of an agent or a harness. What is deleted stays so.
INSERT INTO roster (kind, name, status, body) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT DO UPDATE SET status = excluded.status, body = excluded.body WHERE roster.status <> 'deleted'
RETURNING kind;

-- roster: What became of all of them.
SELECT body FROM roster ORDER BY kind, name;
