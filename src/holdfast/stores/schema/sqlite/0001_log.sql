-- Sessions, their events, and blobs.

-- Where each session's log stands. An append moves `sequence` on in the transaction that writes the events.
CREATE TABLE sessions (
    number     INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    sequence   INTEGER NOT NULL,  -- of its last event
    epoch      INTEGER NOT NULL,  -- of the writer that may append
    created_at INTEGER NOT NULL,  -- microseconds since 1970, UTC
    updated_at INTEGER NOT NULL
) STRICT;

-- A session's events lie side by side in one tree: its number is the upper half of their keys.
CREATE TABLE events (
    key  INTEGER PRIMARY KEY,  -- (sessions.number << 32) | sequence
    body TEXT    NOT NULL      -- the whole event, as JSON
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
    events.body ->  '$.data'   AS data
FROM sessions
JOIN events ON events.key BETWEEN (sessions.number << 32) AND (sessions.number << 32 | 0xffffffff);
