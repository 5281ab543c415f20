"""Appends to several sessions of the database in argv[1] for ever, and says on stdout what was acknowledged."""

import asyncio
import os
import sys

from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing.said import said

SESSIONS = ("session_a", "session_b", "session_c")


async def write(store: SQLiteStore, session_id: str) -> None:
    head = await store.head(session_id)
    sequence = head.sequence if head else 0
    while True:
        words = [f"{session_id} {sequence + n}" for n in (1, 2, 3)]
        await store.append(session_id, said(session_id, sequence + 1, *words), expected=sequence, epoch=1)
        sequence += 3
        os.write(1, f"{session_id} {sequence}\n".encode())


async def main() -> None:
    store = SQLiteStore(sys.argv[1])
    await store.open()
    async with asyncio.TaskGroup() as group:
        for session_id in SESSIONS:
            group.create_task(write(store, session_id))


asyncio.run(main())
