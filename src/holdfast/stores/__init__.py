"""Where logs and blobs sleep. Each store keeps the contract in `holdfast.store`; `holdfast.testing` has its suite.

accept.py         what every store asks before it takes an append, and how it words a refusal
memory.py         `MemoryStore`: in this process, for as long as it lives
sqlite.py         `SQLiteStore`: one file, durable before acknowledged
sqlite_writer.py  its one writing thread: group commit, and what a failing disk comes to
sqlite_file.py    its file: created, recognised, migrated; every SQLite error in our words
queries/          the SQL that runs, each query named and explained
schema/           the tables, as numbered migrations that never change once released
"""
