"""Takes sessions of the store at argv[1] from its rivals and writes to them until killed. Says on stdout what it did:

    ready                                              the store is open
    claim SESSION EPOCH BEFORE AFTER HOLD OWNER        a claim that went well
    write SESSION EPOCH BEFORE AFTER HOLD SEQUENCE     an append that was acknowledged

BEFORE and AFTER are the times of the call and of its end, on the clock that all processes share; HOLD is how long the
session is held then. argv[2] is how long that usually is.
"""

import asyncio
import os
import random
import sys
import time

from holdfast.errors import SessionHeld, Superseded
from holdfast.store import Terms
from holdfast.stores.postgres import PostgresStore
from holdfast.testing.said import said


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def take(store: PostgresStore, session_id: str, owner: str, hold: float) -> None:
    """Claim the session and write to it some times, at times for longer than allowed; let go of it, at times."""
    before = time.monotonic()
    try:
        epoch = await store.claim(session_id, owner=owner, hold=hold)
    except SessionHeld as held:
        await asyncio.sleep(random.uniform(0, held.seconds))
        return
    say("claim", session_id, epoch, before, time.monotonic(), hold, owner)
    head = await store.head(session_id)
    assert head is not None
    sequence = head.sequence
    for left in reversed(range(random.randrange(1, 8))):
        events = said(session_id, sequence + 1, *[f"{owner} {epoch}"] * random.randrange(1, 4))
        terms = Terms(owner=owner, hold=hold if left or random.random() < 0.5 else 0.0)
        before = time.monotonic()
        try:
            await store.append(session_id, events, expected=sequence, epoch=epoch, terms=terms)
        except Superseded:
            return  # the lease ran out and a rival came
        sequence += len(events)
        say("write", session_id, epoch, before, time.monotonic(), terms.hold, sequence)
        if random.random() < 0.1:
            await asyncio.sleep(random.uniform(0, 2 * hold))


async def main(url: str, hold: str, *sessions: str) -> None:
    store = PostgresStore(url)
    await store.open()
    say("ready")

    async def work(owner: str) -> None:
        while True:
            await take(store, random.choice(sessions), owner, float(hold))

    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(work(f"{os.getpid()}-{n}"))


asyncio.run(main(*sys.argv[1:]))
