"""Where logs, letters, blobs, leases and snapshots sleep.

Each store keeps the contract in `holdfast.store`; `holdfast.testing` has its suite.

accept.py          what every store asks before it takes an append, a claim or a letter, and how it words a refusal
accounts.py        what entries make of accounts, and accounts in memory
chain.py           what ties the events of a session to each other, and tells when one was changed
bell.py            what somebody who waits for a write hears
memory.py          `MemoryStore`: in this process, for as long as it lives
sqlite.py          `SQLiteStore`: one file, durable before acknowledged
sqlite_threads.py  its two threads, one reading and one writing, and how it notices what others write
sqlite_writer.py   the writing one: group commit, and what a failing disk comes to
sqlite_log.py      logs in its file: appends, and events read back
sqlite_transaction.py    a tool's transaction, which has that thread to itself
sqlite_rows.py     what its rows can hold, and how it is written in them
sqlite_accounts.py    accounts in it
sqlite_file.py     its file: created, recognised, migrated, copied; every SQLite error in our words
sqlite_roster.py   the roster in it
sqlite_check.py    what is wrong with a file
boot_clock.py      the clock that its leases run on
postgres.py        `PostgresStore`: a schema of a database, for processes on any number of machines
postgres_rows.py   what its rows can hold, and how it is written in them
postgres_accounts.py  accounts in it
postgres_server.py    its server: reached, recognised, migrated; every Postgres error in our words
postgres_writer.py    the connection that appends: group commit, and what a broken connection comes to
postgres_transaction.py  a tool's transaction, on a connection of its own
postgres_listener.py  the connection that hears of what others write
roster.py          agents that are out of use, as rows have them
queries/           the SQL that runs, each query named and explained
schema/            the tables, as numbered migrations that never change once released
"""
