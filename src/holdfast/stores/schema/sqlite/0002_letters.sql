-- Facts that somebody else than its writer wants recorded in a session, until the writer has dealt with them.
CREATE TABLE letters (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: who takes an old one must not get a new one
    session INTEGER NOT NULL,                   -- sessions.number
    body    TEXT    NOT NULL                    -- the event, with sequence 0, as JSON
) STRICT;

CREATE INDEX addressed ON letters (session);
