-- Every statement that runs on a SQLite store. Each begins with `-- name: what it is for`; ?1, ?2 … are its
-- arguments in order. Bodies are bound and fetched as bytes (CAST), which saves decoding and encoding them, and
-- stored as text, which keeps them readable.

-- create: A session's row, for its first append. No row comes back when there is one already: refused.
INSERT INTO sessions (id, sequence, epoch, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT DO NOTHING
RETURNING number;

-- advance: Move a session on for an append, if it stands where the writer thinks and the writer is still the one.
-- No row comes back otherwise: refused.
UPDATE sessions
SET sequence = ?4, updated_at = ?5
WHERE id = ?1 AND sequence = ?2 AND epoch = ?3
RETURNING number;

-- add: One event. The key cannot be taken: `advance` made it this transaction's.
INSERT INTO events (key, body) VALUES (?1, CAST(?2 AS TEXT));

-- claim: A new epoch, above all before it. No row comes back for an unknown session.
UPDATE sessions SET epoch = epoch + 1 WHERE id = ?1 RETURNING epoch;

-- keep: A blob, unless it is there.
INSERT INTO blobs (digest, data) VALUES (?1, ?2) ON CONFLICT DO NOTHING;

-- standing: Sequence and epoch, to say why an append was refused.
SELECT sequence, epoch FROM sessions WHERE id = ?1;

-- read: A session's events above a sequence, in order.
SELECT CAST(body AS BLOB)
FROM events
WHERE key > (SELECT number << 32 FROM sessions WHERE id = ?1) + ?2
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
