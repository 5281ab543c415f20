-- Sessions, their events, snapshots of their state, and blobs.

-- Where each session's log stands, and who may go on with it. An append moves `sequence` on in the transaction that
-- writes the events.
CREATE TABLE sessions (
    number     INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    sequence   INTEGER NOT NULL,  -- of its last event
    epoch      INTEGER NOT NULL,  -- of the writer that may append
    created_at INTEGER NOT NULL,  -- microseconds since 1970, UTC
    updated_at INTEGER NOT NULL,
    due_at     INTEGER,           -- from when on anybody may go on with it; NULL: nothing is owed
    held_by    TEXT,              -- who keeps others from claiming it; NULL: nobody
    held_until INTEGER,           -- nanoseconds since the machine started
    held_boot  TEXT               -- the name of that start; a lease from before another one is over
) STRICT;

-- The few sessions that are at work or have work, so that looking for some costs nothing while thousands rest.
CREATE INDEX busy ON sessions (due_at) WHERE due_at IS NOT NULL OR held_by IS NOT NULL;

-- A session's events lie side by side in one tree: its number is the upper half of their keys.
CREATE TABLE events (
    key   INTEGER PRIMARY KEY,  -- (sessions.number << 32) | sequence
    chain BLOB    NOT NULL,     -- 16 bytes of SHA-256 over the chain of the event before (at first: over the id), and body
    body  TEXT    NOT NULL      -- the whole event, as JSON
) STRICT;

-- What a session's events up to `sequence` come to. It saves folding them and says nothing that they do not.
CREATE TABLE snapshots (
    number   INTEGER PRIMARY KEY,  -- sessions.number
    sequence INTEGER NOT NULL,
    version  INTEGER NOT NULL,     -- of what `body` means
    body     BLOB    NOT NULL
) STRICT;

-- Large values, by content: the same bytes are kept once.
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,  -- 'sha256:' and 64 hex digits
    data   BLOB NOT NULL
) STRICT;

-- For people: `SELECT * FROM log WHERE session_id = '…'`.
CREATE VIEW log AS
SELECT
    sessions.id                AS session_id,
    events.key & 0xffffffff    AS sequence,
    events.body ->> '$.ts'     AS ts,
    events.body ->> '$.type'   AS type,
    events.body ->  '$.data'   AS data,
    lower(hex(events.chain))   AS chain
FROM sessions
JOIN events ON events.key BETWEEN (sessions.number << 32) AND (sessions.number << 32 | 0xffffffff);
