"""Somebody who rewrites a log in its file, and all of its chain."""

import sqlite3
from hashlib import sha256
from pathlib import Path


def rechain(path: Path | str) -> None:
    """Make the chain of every session in this file fit to what its rows hold now."""
    database = sqlite3.connect(path)
    names = dict(database.execute("SELECT number, id FROM sessions"))
    chains: dict[int, bytes] = {}
    rows = database.execute("SELECT key, CAST(body AS BLOB) FROM events ORDER BY key").fetchall()
    for key, body in rows:
        number = key >> 32
        before = chains.get(number) or sha256(names[number].encode()).digest()[:16]
        chains[number] = sha256(before + body).digest()[:16]
        database.execute("UPDATE events SET chain = ? WHERE key = ?", (chains[number], key))
    database.commit()
    database.close()
