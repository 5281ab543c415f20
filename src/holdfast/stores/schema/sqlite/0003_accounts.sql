-- What many sessions share and use up: an account for each principal or organisation, quantity and window.
-- A tool may have tables of its own beside these, so these have long names.
CREATE TABLE budget_accounts (
    name   TEXT PRIMARY KEY,
    used   TEXT NOT NULL DEFAULT '0',  -- an exact decimal, as text
    raised TEXT NOT NULL DEFAULT '0'   -- what was added to every ceiling on it
) STRICT, WITHOUT ROWID;

-- What is set aside on an account for something that is under way, until what it used is known.
CREATE TABLE budget_reservations (
    account TEXT NOT NULL,
    key     TEXT NOT NULL,
    amount  TEXT NOT NULL,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
