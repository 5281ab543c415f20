"""What another process does with a session of the database in argv[2], as the owner named in argv[3].

race TIMES HOLD     wait for a line on stdin, then claim `session_a` so many times; under each claim append who holds
                    it, then let go
hold HOLD           claim `session_a`, wait for a line on stdin, then append
ask                 claim `session_a` once
"""

import asyncio
import sys
import time

from holdfast.errors import HoldfastError, SessionHeld, StaleEpoch
from holdfast.store import Terms
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing.said import said


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def race(store: SQLiteStore, owner: str, times: str, hold: str) -> None:
    """Says `ready`, then `claimed EPOCH FROM TO` (nanoseconds) for each claim, `fenced EPOCH` if somebody took over."""
    say("ready")
    sys.stdin.readline()
    claims = 0
    while claims < int(times):
        try:
            epoch = await store.claim("session_a", owner=owner, hold=float(hold))
        except SessionHeld:
            await asyncio.sleep(0)
            continue
        claims += 1
        begun = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        head = await store.head("session_a")
        assert head is not None
        events = said("session_a", head.sequence + 1, f"{owner} {epoch}")
        ended = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        try:
            await store.append("session_a", events, expected=head.sequence, epoch=epoch)
        except StaleEpoch:
            say("fenced", epoch)
        else:
            say("claimed", epoch, begun, ended)


async def hold(store: SQLiteStore, owner: str, hold: str) -> None:
    """Says `held EPOCH`, and at the end `written` or the name of the error."""
    epoch = await store.claim("session_a", owner=owner, hold=float(hold))
    head = await store.head("session_a")
    assert head is not None
    events = said("session_a", head.sequence + 1, f"{owner} {epoch}")
    say("held", epoch)
    sys.stdin.readline()
    terms = Terms(owner=owner, hold=float(hold))
    await store.append("session_a", events, expected=head.sequence, epoch=epoch, terms=terms)
    say("written")


async def ask(store: SQLiteStore, owner: str) -> None:
    """Says what the wall clock shows, and `free`, or who holds the session and for how long."""
    say(time.time())
    try:
        await store.claim("session_a", owner=owner)
    except SessionHeld as error:
        say(error.owner, error.seconds)
    else:
        say("free")


async def main(what: str, path: str, *arguments: str) -> None:
    store = SQLiteStore(path)
    await store.open()
    try:
        await {"race": race, "hold": hold, "ask": ask}[what](store, *arguments)
    except HoldfastError as error:
        say(type(error).__name__, error)
    await store.close()


asyncio.run(main(*sys.argv[1:]))
