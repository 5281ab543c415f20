-- Agents and harnesses that somebody put out of use, or back into it.
CREATE TABLE roster (
    kind   TEXT NOT NULL,  -- 'agent' or 'harness'
    name   TEXT NOT NULL,
    status TEXT NOT NULL,  -- 'active', 'archived' or 'deleted'; what is deleted stays so
    body   TEXT NOT NULL,  -- all of it, with who said so and when, as JSON
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
