"""One process of a race, until it is killed:

    python -m tests.stores.postgres.racing_process write|read URL JOURNAL SEED SESSION...

A writer takes sessions from its rivals and writes to them; a reader follows all of them, and ends when it has read the
last event that they get. Each notes in its journal what it believes.
"""

import asyncio
import logging
import os
import random
import sys
import time
from pathlib import Path

from holdfast.errors import SessionHeld, StoreError, Superseded
from holdfast.events import Event
from holdfast.store import FREE, Store, Terms
from holdfast.stores.postgres import PostgresStore
from holdfast.testing.said import said, said_in
from tests.stores.postgres.faulty_store import FaultyStore
from tests.stores.postgres.race_journal import (
    Claimed,
    Posted,
    Posting,
    RaceJournal,
    Refused,
    Renewed,
    Saw,
    Wrote,
    digest,
    meant,
    noted,
)

HANDS = 2
"""That write, each under its own name, in one process."""
HOLDS = (0.05, 0.1, 0.2)
"""Seconds. The longest is what a renewal asks for, so that one whose answer was lost shortens nothing."""
END = "that was all"
"""What the last event of a session says."""


class Hand:
    """Claims sessions and writes to them under one name."""

    def __init__(self, store: Store, journal: RaceJournal, owner: str, seed: str) -> None:
        self.store = store
        self.journal = journal
        self.owner = owner
        self.dice = random.Random(seed)
        self._letters = 0

    async def claim(self, session: str, hold: float) -> int:
        """The epoch, once it is known for good to have been given."""
        before = time.monotonic()
        epoch = await self.store.claim(session, owner=self.owner, hold=hold)
        after = time.monotonic()
        self.journal.note(
            Claimed(session=session, epoch=epoch, owner=self.owner, hold=hold, before=before, after=after)
        )
        return epoch

    async def write(
        self, session: str, events: list[Event], epoch: int, hold: float, taken: tuple[int, ...] = ()
    ) -> bool:
        """Whether it was acknowledged; False when somebody else has taken over."""
        expected = events[0].sequence - 1
        terms = Terms(owner=self.owner, hold=hold, taken=taken) if hold or taken else FREE
        self.journal.note(meant(events, session=session, epoch=epoch, expected=expected, hold=hold))
        try:
            await self.store.append(session, events, expected=expected, epoch=epoch, terms=terms)
        except Superseded:
            self.journal.note(Refused(session=session, epoch=epoch, expected=expected))
            return False
        self.journal.note(Wrote(session=session, epoch=epoch, expected=expected))
        return True

    async def renew(self, session: str, epoch: int) -> None:
        before = time.monotonic()
        await self.store.renew(self.owner, HOLDS[-1])
        after = time.monotonic()
        self.journal.note(Renewed(session=session, epoch=epoch, hold=HOLDS[-1], before=before, after=after))

    async def post(self, session: str) -> None:
        """Leave a letter there, whoever is at work on it."""
        self._letters += 1
        letter = f"letter-{self.owner}-{self._letters}"
        self.journal.note(Posting(session=session, letter=letter))
        await self.store.post(session, said(session, 0, letter)[0])
        self.journal.note(Posted(session=session, letter=letter))

    async def take(self, session: str) -> None:
        """Claim the session and write to it; now and then come back when it is somebody else's."""
        try:
            epoch = await self.claim(session, self.dice.choice(HOLDS))
        except SessionHeld as held:
            await asyncio.sleep(self.dice.uniform(0, held.seconds))
            return
        await self._write_some(session, epoch)
        if self.dice.random() < 0.4:
            await self._come_back(session, epoch)

    async def _come_back(self, session: str, epoch: int) -> None:
        """Write at the right place, under an epoch that is mostly over by then."""
        for _ in range(10):
            head = await self.store.head(session)
            assert head is not None
            if head.epoch > epoch:
                break
            await asyncio.sleep(0.05)
        await self._write_one(session, epoch, head.sequence, 0.0)

    async def _write_some(self, session: str, epoch: int) -> None:
        """A few times, dawdling in between; let go with the last one, mostly."""
        sequence: int | None = await self._sequence(session)
        await self._dawdle(session, epoch)
        if self.dice.random() < 0.5:
            sequence = await self._answer(session, epoch, sequence or 0)
        for left in reversed(range(self.dice.randrange(1, 8))):
            if sequence is None:
                return
            hold = self.dice.choice(HOLDS) if left or self.dice.random() < 0.3 else 0.0
            sequence = await self._write_one(session, epoch, sequence, hold)
            if sequence is not None and self.dice.random() < 0.2:
                sequence = await self._write_two(session, epoch, sequence)
            await self._dawdle(session, epoch)

    async def _write_one(self, session: str, epoch: int, sequence: int, hold: float) -> int | None:
        """Append one to three events; where the log then ends, None when that was refused."""
        words = [self._words(epoch) for _ in range(self.dice.randrange(1, 4))]
        written = await self.write(session, said(session, sequence + 1, *words), epoch, hold)
        return sequence + len(words) if written else None

    async def _answer(self, session: str, epoch: int, sequence: int) -> int | None:
        """Record the letters that lie there, and take them in the same append."""
        letters = (await self.store.letters(session))[:5]
        if not letters:
            return sequence
        words = [f"{self.owner} {epoch} {said_in(letter.event)}" for letter in letters]
        taken = tuple(letter.number for letter in letters)
        written = await self.write(session, said(session, sequence + 1, *words), epoch, HOLDS[0], taken)
        return sequence + len(words) if written else None

    async def _write_two(self, session: str, epoch: int, sequence: int) -> int | None:
        """The second append does not wait for the first. They ask for the same lease: who knows which comes last."""
        one, other = [self._words(epoch)], [self._words(epoch)]
        both = await asyncio.gather(
            self.write(session, said(session, sequence + 1, *one), epoch, HOLDS[0]),
            self.write(session, said(session, sequence + 2, *other), epoch, HOLDS[0]),
        )
        return sequence + 2 if all(both) else None

    async def _sequence(self, session: str) -> int:
        head = await self.store.head(session)
        assert head is not None
        return head.sequence

    def _words(self, epoch: int) -> str:
        return f"{self.owner} {epoch} " + "." * self.dice.choice((0, 10, 10, 2_000))

    async def _dawdle(self, session: str, epoch: int) -> None:
        """Mostly not at all; at times for longer than the lease, at times with a renewal."""
        what = self.dice.random()
        if what < 0.1:
            await asyncio.sleep(self.dice.uniform(0, 2 * HOLDS[-1]))
        elif what < 0.25:
            await self.renew(session, epoch)

    async def work(self, sessions: list[str]) -> None:
        """For ever."""
        while True:
            if self.dice.random() < 0.3:
                await self.post(self.dice.choice(sessions))
            await self.take(self.dice.choice(sessions))


async def write(store: Store, journal: RaceJournal, seed: str, sessions: list[str]) -> None:
    async with asyncio.TaskGroup() as group:
        for n in range(HANDS):
            hand = Hand(store, journal, f"{os.getpid()}-{n}", f"{seed}-{n}")
            group.create_task(hand.work(sessions))


async def read(store: Store, journal: RaceJournal, cursors: dict[str, int]) -> None:
    """Go on behind the cursors. Nothing is looked for unless the store says so: what it keeps to itself is missed."""
    heard = await store.woken(0)
    while cursors:
        for session in tuple(cursors):
            while page := await store.read(session, after=cursors[session], limit=50):
                cursors[session] = page[-1].sequence
                seen = tuple((event.sequence, digest(event)) for event in page)
                journal.note(Saw(session=session, events=seen))
                if said_in(page[-1]).endswith(END):
                    del cursors[session]
                    break
        if cursors:
            heard = await store.woken(3_600, heard)


def cursors_of(path: Path, sessions: list[str]) -> dict[str, int]:
    """Where the reader before this one had got to."""
    cursors = dict.fromkeys(sessions, 0)
    for line in noted(path) if path.exists() else []:
        assert isinstance(line, Saw)
        cursors[line.session] = line.events[-1][0]
    return cursors


async def opened(store: PostgresStore) -> None:
    """Open it, perhaps later: a store that is open waits for its server, one that opens does not."""
    for _ in range(100):
        try:
            await store.open()
            return
        except StoreError:
            await asyncio.sleep(0.1)
    await store.open()


async def main(role: str, url: str, path: str, seed: str, *sessions: str) -> None:
    cursors = cursors_of(Path(path), list(sessions)) if role == "read" else {}
    faulty = any(session.startswith(FaultyStore.SIGN) for session in sessions)
    store = (FaultyStore if faulty else PostgresStore)(url, pool_size=2)
    await opened(store)
    with RaceJournal(Path(path)) as journal:
        await (
            read(store, journal, cursors) if role == "read" else write(store, journal, seed, list(sessions))
        )
    await store.close()


if __name__ == "__main__":
    logging.getLogger("holdfast").setLevel(logging.ERROR)  # that a server is away is no news here
    asyncio.run(main(*sys.argv[1:]))
