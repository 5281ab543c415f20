"""Power cuts: what a store does to its disk is recorded, and its files are put together as a cut may leave them.

    run(2_000, seed=1)    how many images of the disk were looked at, and in how many something acknowledged was lost

An image is what may be found after a cut at some moment of a story. The store is opened on it and asked for everything
it had acknowledged until then.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest

from holdfast import Agent, Request, Runtime, tool
from holdfast.drivers.sim import Sim, call, calls, say
from holdfast.drivers.sim import Step as SimStep
from holdfast.errors import StoreError
from holdfast.events import Event, encode_event
from holdfast.store import Snapshot, Terms, digest_of
from holdfast.stores import boot_clock, sqlite_file, sqlite_writer
from holdfast.stores.chain import beginning, links
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing import problems_in
from holdfast.testing.said import said
from tests.stores.disk import Disk, PowerCut, Step, put
from tests.stores.witness import Promises, Witness, foreign, lost

FILE = "log.db"
RESUMED = 20
"""Of so many images of a runtime one is taken up by another runtime, which goes on with every session."""


@dataclass
class Report:
    """What was found."""

    images: int = 0
    losses: int = 0
    """Images in which something acknowledged is missing."""
    corrupt: int = 0
    """Images that cannot be opened, are damaged, or hold what nobody appended."""
    problems: list[str] = field(default_factory=list)
    """The first of them, in words."""

    def add(self, where: str, losses: list[str], damage: list[str]) -> None:
        self.images += 1
        self.losses += bool(losses)
        self.corrupt += bool(damage)
        if (losses or damage) and len(self.problems) < 10:
            self.problems.append(f"{where}: {'; '.join([*losses, *damage][:5])}")

    def counts(self) -> dict[str, int]:
        return {"images": self.images, "losses": self.losses, "corrupt": self.corrupt}


@dataclass(frozen=True)
class Recording:
    """A story, as the disk saw it from `before` on."""

    before: dict[str, bytes]
    steps: list[Step]
    witness: Witness


def run(images: int, seed: int) -> dict[str, int]:
    """Cut the power at so many moments of the stories; how many images there were, and how many of them were bad."""
    return asyncio.run(cut(images, seed)).counts()


async def cut(images: int, seed: int, stories: Sequence[Story] | None = None) -> Report:
    """Share the images among the stories. The seed decides on the cuts; what a story writes is new every time."""
    report = Report()
    stories = stories or STORIES
    for number, story in enumerate(stories):
        share = images // len(stories) + (number < images % len(stories))
        with in_memory() as folder, pytest.MonkeyPatch.context() as stage:
            stage.setattr(sqlite_writer, "CHECKPOINT_PAGES", 20)
            (folder / "made").mkdir()
            recording = await story(folder / "made" / FILE, stage)
            stage.setattr(boot_clock, "_boot", lambda: "after the power cut")
            dice = random.Random(f"{seed} {story.__name__}")
            await _cut(recording, share, dice, folder, report, story.__name__)
    return report


async def _cut(
    recording: Recording, images: int, dice: random.Random, folder: Path, report: Report, name: str
) -> None:
    steps, power, promises = recording.steps, PowerCut(recording.before), Promises()
    acknowledged = iter([*recording.witness.acknowledged, (len(steps) + 1, lambda _: None)])
    moment, acknowledge = next(acknowledged)
    done = 0
    for number, at in enumerate(sorted(dice.randrange(len(steps) + 1) for _ in range(images))):
        for step in steps[done:at]:
            power.happens(step)
        done = at
        while moment <= at:
            acknowledge(promises)
            moment, acknowledge = next(acknowledged)
        image = folder / "image"
        put(power.files(dice), image)
        where = f"{name}, image {number}, after {at} of {len(steps)} steps"
        report.add(where, *await judge(image / FILE, recording.witness, promises))
        if name == "a_runtime" and number % RESUMED == 0:
            await resume(image / FILE, recording.witness)
        shutil.rmtree(image)


async def judge(path: Path, witness: Witness, promises: Promises) -> tuple[list[str], list[str]]:
    """What is lost in this file, and what else is wrong with it."""
    store = SQLiteStore(path)
    try:
        await store.open()
        damage = [f"{p.where}: {p.message}" for p in await store.check() if p.kind != "lease"]
        return await lost(promises, store), damage + await foreign(witness, store)
    except StoreError as error:
        return [repr(error)] * bool(promises.logs), [repr(error)]
    finally:
        await store.close()


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder that takes no disk, where the system has such folders: syncing an image would prove nothing."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


# The stories ----------------------------------------------------------------------------------------------------------


Story = Callable[[Path, pytest.MonkeyPatch], Awaitable[Recording]]


@contextmanager
def recorded(path: Path) -> Iterator[Recording]:
    """What happens inside, to a store in this file. What is in its folder already was there long before."""
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        witness = Witness(SQLiteStore(path, vfs=disk.name), lambda: len(disk.steps))
        yield Recording(before, disk.steps, witness)


async def appends(path: Path, stage: pytest.MonkeyPatch) -> Recording:
    """Sessions are written to at once, with claims, snapshots, blobs and checkpoints, and a reopening."""
    with recorded(path) as recording:
        for part in range(2):
            await recording.witness.open()
            writing = [write(recording.witness, name, part) for name in ("session_a", "session_b")]
            await asyncio.gather(*writing)
            await recording.witness.close()
    assert sum(step == Step("sync", FILE) for step in recording.steps) > 3, "the run must include checkpoints"
    return recording


async def write(store: Witness, session_id: str, part: int) -> None:
    epoch = 1 if part == 0 else await store.claim(session_id)
    for n in range(part * 16, part * 16 + 16, 2):
        letters = tuple([letter.number for letter in await store.letters(session_id)])
        words = [f"{session_id} {n + 1} " + "x" * 2_000, f"{session_id} {n + 2}"]
        events, terms = said(session_id, n + 1, *words), Terms(taken=letters[1:])
        await store.append(session_id, events, expected=n, epoch=epoch, terms=terms)
        await store.discard(session_id, letters[:1], epoch=epoch)
        for letter in said(session_id, 0, "please") + said(session_id, 0, f"answer {n}"):
            await store.post(session_id, letter)
        await store.put_blob(f"{session_id} {n}".encode() * 100)
        body = b"state" * 50
        await store.save_snapshot(session_id, Snapshot(sequence=n + 2, version=1, body=body))
        if n % 6 == 0:
            epoch = await store.claim(session_id, owner="somebody", hold=0.001)


async def a_new_file(path: Path, stage: pytest.MonkeyPatch) -> Recording:
    """A file is made, and something is written at once."""
    with recorded(path) as recording:
        store = recording.witness
        await store.open()
        await store.append("session_a", said("session_a", 1, "hello", "again"), expected=0, epoch=1)
        await store.put_blob(b"x" * 10_000)
        await store.append("session_a", said("session_a", 3, "three"), expected=2, epoch=1)
        await store.close()
    return recording


async def a_migration(path: Path, stage: pytest.MonkeyPatch) -> Recording:
    """A file of the first version is opened by a program that knows later ones, and two that are not made yet."""
    events = said("session_a", 1, *["x" * 2_000 for _ in range(16)])
    blob = b"blob" * 3_000
    _first_version(path, events, blob)
    known = sqlite_file.migrations()
    stage.setattr(sqlite_file, "migrations", lambda: (*known, *NEWER))
    with recorded(path) as recording:
        store = recording.witness
        store.asked["session_a"] = {event.sequence: [event] for event in events}
        store.acknowledged.append((0, lambda promises: promises.logged(events)))
        store.acknowledged.append((0, lambda promises: promises.blobs.add(digest_of(blob))))
        await store.open()
        await write(store, "session_a", 1)
        await store.close()
    migrated = apsw.Connection(str(path))
    assert migrated.pragma("user_version") == len(known) + 2
    assert migrated.execute("SELECT count(*), sum(length) > 32000 FROM lengths").get == (16, 1)
    migrated.close()
    return recording


def _first_version(path: Path, events: list[Event], blob: bytes) -> None:
    """A file with this session and this blob, as the first Holdfast left it."""
    file = apsw.Connection(str(path))
    file.pragma("journal_mode", "wal")
    file.execute(sqlite_file.migrations()[0])
    file.pragma("application_id", sqlite_file.APPLICATION_ID)
    file.pragma("user_version", 1)
    insert = (
        "INSERT INTO sessions (number, id, sequence, epoch, created_at, updated_at) VALUES (1, ?, ?, 1, 0, 0)"
    )
    file.execute(insert, (events[0].session_id, len(events)))
    bodies = [encode_event(event) for event in events]
    chain = links(beginning(events[0].session_id), bodies)
    rows = zip(count((1 << 32) + 1), chain, [body.decode() for body in bodies], strict=False)
    file.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
    file.execute("INSERT INTO blobs VALUES (?, ?)", (digest_of(blob), blob))
    file.close()


NEWER = (
    "CREATE TABLE lengths (key INTEGER PRIMARY KEY, length INTEGER NOT NULL) STRICT;"
    "INSERT INTO lengths SELECT key, length(body) FROM events;",
    "ALTER TABLE blobs ADD COLUMN note TEXT; UPDATE blobs SET note = 'from before';"
    "CREATE INDEX by_length ON lengths (length);",
)


async def a_runtime(path: Path, stage: pytest.MonkeyPatch) -> Recording:
    """Sessions have turns with tools, all at once; then another runtime claims them and goes on."""
    with recorded(path) as recording:
        first = Runtime(recording.witness)
        async with first:
            sessions = [await first.session(worker()) for _ in range(3)]
            await asyncio.gather(*[session.run("Do the work. " + "x" * 1_000) for session in sessions])
        async with Runtime(recording.witness, agents=[worker()]) as second:
            again = [await second.open(session.id) for session in sessions]
            results = await asyncio.gather(*[session.run("Once more.") for session in again])
        assert [result.status for result in results] == ["completed"] * 3
    return recording


def worker() -> Agent:
    """An agent that pays, looks something up and answers."""

    @tool(effect="once")
    async def pay(cents: int) -> str:
        """Pay, once."""
        return f"paid {cents}"

    @tool(effect="pure")
    async def look(at: str) -> str:
        """Look something up."""
        return at * 200

    steps = (call("pay", cents=5), calls(("look", {"at": "a"}), ("pay", {"cents": 7})), say("Done."))

    def next_step(request: Request) -> SimStep:
        roles = [message.role for message in request.messages]
        since = roles[len(roles) - roles[::-1].index("user") :]
        return steps[since.count("assistant")]

    return Agent("Work.", name="worker", model=Sim.rule(next_step), tools=[pay, look])


async def resume(path: Path, witness: Witness) -> None:
    """Another runtime goes on with every session in this file, and can work with each."""
    async with Runtime(path, agents=[worker()]) as runtime:
        for head in await runtime.sessions():
            session = await runtime.open(head.session_id)
            result = await session.run("And again.")
            assert result.status == "completed", result
            assert problems_in(await session.events()) == []


STORIES: tuple[Story, ...] = (appends, a_runtime, a_new_file, a_migration)
