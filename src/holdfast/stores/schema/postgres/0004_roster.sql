-- The roster. Where the store's schema has another name, that name stands in place of `holdfast`.

-- Agents and harnesses that somebody put out of use, or back into it.
CREATE TABLE holdfast.roster (
    kind   text COLLATE "C" NOT NULL,  -- 'agent' or 'harness'
    name   text COLLATE "C" NOT NULL,
    status text NOT NULL,              -- 'active', 'archived' or 'deleted'; what is deleted stays so
    body   text NOT NULL,              -- all of it, with who said so and when, as JSON
    PRIMARY KEY (kind, name)
);
