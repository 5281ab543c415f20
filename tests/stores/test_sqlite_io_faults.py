"""Every step on the disk fails in turn: the first write, the second, …, until there is none left to fail.

Whatever fails surfaces as an error of ours or does no harm; nothing is damaged, nothing acknowledged is lost, nothing
that was refused is kept, and the sessions go on once the disk works.
"""

import asyncio
import errno
import shutil
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from holdfast import Agent, Context, Request, Runtime, tool
from holdfast.drivers.sim import Sim, call, say
from holdfast.drivers.sim import Step as Move
from holdfast.errors import HoldfastError, StoreCorrupt, StoreError, StoreFull, UnknownSession
from holdfast.store import Snapshot
from holdfast.stores import boot_clock, sqlite_writer
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing import problems_in
from holdfast.testing.said import said
from tests.stores.disk import Disk, Step
from tests.stores.power import in_memory, judge
from tests.stores.system_calls import HALF, fateful
from tests.stores.witness import Witness

FILE = "log.db"
MOST = 1_000
"""Steps of one kind that no scenario comes near."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong: steps of kind `what` fail for this reason."""

    what: str
    errno: int
    torn: bool = False
    """Whether the write before did half of what it should."""


FAULTS = {
    "a write fails": Fault("write", errno.EIO),
    "a write fails half way": Fault("write", errno.EIO, torn=True),
    "a write finds no room": Fault("write", errno.ENOSPC),
    "a write finds room for its half": Fault("write", errno.ENOSPC, torn=True),
    "a sync fails": Fault("sync", errno.EIO),
    "a sync finds no room": Fault("sync", errno.ENOSPC),
    "an open fails": Fault("open", errno.EIO),
    "an open finds no room": Fault("open", errno.ENOSPC),
    "an open is one too many": Fault("open", errno.EMFILE),
    "a truncation fails": Fault("truncate", errno.EIO),
    "a truncation finds no room": Fault("truncate", errno.ENOSPC),
    "a deletion fails": Fault("delete", errno.EIO),
    "a read fails": Fault("read", errno.EIO),
}
CASES = [
    pytest.param(name, lasting, id=f"{name}, {'from then on' if lasting else 'once'}")
    for name, fault in FAULTS.items()
    for lasting in (False, True)
    if not (fault.torn and lasting)  # the half that is written is the only difference
]
CASES_OF_A_RUNTIME = [case for case in CASES if "half" not in str(case.id)]
NO_ROOM = [name for name, fault in FAULTS.items() if fault.what == "write" and fault.errno == errno.ENOSPC]


class Trial:
    """One life of a store on a disk whose n-th step of a kind fails, and with `lasting` every one after it."""

    def __init__(
        self, path: Path, patch: pytest.MonkeyPatch, fault: Fault, number: int, lasting: bool
    ) -> None:
        self.path = path
        self.fired = 0
        self.errors: list[HoldfastError] = []
        disk = Disk(patch)
        disk.fail, disk.errno = self._sync_fails, fault.errno
        vfs = disk.name if fault.what == "sync" else None
        self.sqlite = SQLiteStore(path, vfs=vfs)
        self.store = Witness(self.sqlite)
        self._fault, self._number, self._lasting = fault, number, lasting
        self._seen = 0
        self._mended = False

    def fate(self, what: str) -> int:
        """What becomes of the next step of this kind."""
        if what != self._fault.what or self._mended:
            return 0
        self._seen += 1
        number = self._number + self._fault.torn
        if self._fault.torn and self._seen == self._number:
            return HALF
        fails = self._seen == number or (self._lasting and self._seen > number)
        self.fired += fails
        return self._fault.errno if fails else 0

    def _sync_fails(self, step: Step) -> int:
        return step.what == "sync" and self.fate("sync") and apsw.SQLITE_IOERR_FSYNC

    def mend(self) -> None:
        """From now on the disk works."""
        self._mended = True

    async def attempt(self, *works: Awaitable[object]) -> None:
        """Do this, all at once. It may fail, in our words."""
        for outcome in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(outcome, HoldfastError):
                self.errors.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def words(self, session_id: str, *words: str) -> None:
        """Go on with a session."""
        head = await self.store.head(session_id)
        sequence, epoch = (head.sequence, head.epoch) if head else (0, 1)
        events = said(session_id, sequence + 1, *words)
        await self.store.append(session_id, events, expected=sequence, epoch=epoch)


Act = Callable[[Trial], Awaitable[None]]


async def try_each(name: str, lasting: bool, life: Act, verdict: Act, *, new: bool = False) -> int:
    """Live with the first such step failing, then with the second, … until there was none to fail; how many.

    Each life has a file without sessions, or with `new` no file.
    """
    with in_memory() as folder:
        empty = SQLiteStore(folder / FILE)
        await empty.open()
        await empty.close()
        for number in range(1, MOST):
            place = folder / str(number)
            place.mkdir()
            if not new:
                shutil.copy(folder / FILE, place)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sqlite_writer, "CHECKPOINT_PAGES", 10)
                trial = Trial(place / FILE, patch, FAULTS[name], number, lasting)
                try:
                    async with asyncio.timeout(20):
                        with fateful(trial.fate):
                            await life(trial)
                        trial.mend()
                        patch.setattr(boot_clock, "_boot", lambda: "another start")
                        await verdict(trial)
                except BaseException as error:
                    error.add_note(f"{name}: number {number} and {'all after it' if lasting else 'no other'}")
                    raise
            if not trial.fired:
                return number - 1
            shutil.rmtree(place)
    raise AssertionError(f"{MOST} steps, and still something to fail")


async def a_store(trial: Trial) -> None:
    """Everything a store does: opened, written to by several at once, moved to the database, closed, opened again."""
    store = trial.store
    await trial.attempt(store.open())
    await a_store_at_work(trial)
    await trial.attempt(store.close())
    await trial.attempt(store.open())
    await trial.attempt(trial.words("session_a", "reopened"))
    await trial.attempt(store.close())


async def a_store_at_work(trial: Trial) -> None:
    store = trial.store
    await trial.attempt(trial.words("session_a", "one", "two"), trial.words("session_b", "one"))
    await trial.attempt(store.put_blob(b"x" * 6_000), store.claim("session_a"))
    await trial.attempt(store.post("session_a", said("session_a", 0, "a letter")[0]))
    await trial.attempt(store.save_snapshot("session_a", Snapshot(sequence=1, version=1, body=b"state")))
    for _ in range(2):
        await trial.attempt(trial.words("session_a", "x" * 5_000), trial.words("session_b", "y" * 3_000))
    await trial.attempt(store.read("session_a"), store.letters("session_a"), trial.sqlite.check())


async def nothing_is_wrong(trial: Trial) -> None:
    """Opened again on a disk that works: whole, complete, without anything that was refused, and ready for more."""
    witness = Witness(SQLiteStore(trial.path))
    losses, damage = await judge(trial.path, trial.store, trial.store.promises())
    assert (losses, damage) == ([], [])
    trial.store = witness
    await witness.open()
    for session_id in ("session_a", "session_b"):
        await trial.words(session_id, "it goes on")
    await witness.close()
    assert not Path(f"{trial.path}-wal").exists()


@pytest.mark.parametrize(("name", "lasting"), CASES)
async def test_a_store_survives(name: str, lasting: bool) -> None:
    assert await try_each(name, lasting, a_store, nothing_is_wrong, new=True) > 0


@pytest.mark.parametrize("name", NO_ROOM)
async def test_cp03_a_full_disk_is_said_reads_go_on_and_so_do_writes_when_there_is_room(name: str) -> None:
    async def full(trial: Trial) -> None:
        await trial.attempt(trial.store.open())
        if trial.errors:
            await trial.store.close()
            return
        await a_store_at_work(trial)
        assert {type(error) for error in trial.errors} <= {StoreFull, UnknownSession}
        for session_id, kept in trial.store.promises().logs.items():
            assert [event.sequence for event in await trial.store.read(session_id)] == [*kept]
        trial.mend()
        await trial.words("session_a", "there is room")
        await trial.store.close()

    assert await try_each(name, True, full, nothing_is_wrong) > 20


async def test_cp05_after_a_sync_failed_nothing_is_acknowledged_before_the_store_is_opened_again() -> None:
    async def distrusted(trial: Trial) -> None:
        await trial.attempt(trial.store.open())
        if not trial.errors:
            before = trial.fired
            await a_store_at_work(trial)
            if trial.fired > before:
                with pytest.raises(StoreCorrupt):
                    await trial.store.put_blob(b"never")
        await trial.attempt(trial.store.close())

    assert await try_each("a sync fails", False, distrusted, nothing_is_wrong) > 5


async def test_a_viewer_that_something_failed_for_sees_what_is_written_later_or_does_not_open() -> None:
    async def viewed(trial: Trial) -> None:
        viewer = SQLiteStore(trial.path, read_only=True)
        await trial.attempt(viewer.open())
        trial.mend()
        store = trial.store
        await store.open()
        await trial.words("session_a", "written later")
        if not trial.errors:
            assert len(await viewer.read("session_a")) == 1
            await viewer.close()
        await store.close()

    for name in ("an open fails", "an open is one too many", "a read fails"):
        for lasting in (False, True):
            assert await try_each(name, lasting, viewed, nothing_is_wrong) > 0


async def test_too_many_open_files_are_named() -> None:
    async def crowded(trial: Trial) -> None:
        await trial.attempt(trial.store.open())
        await trial.store.close()

    said_so = []

    async def told(trial: Trial) -> None:
        said_so.extend(["Too many open files" in str(error) for error in trial.errors])

    await try_each("an open is one too many", True, crowded, told)
    assert any(said_so)


async def test_what_fails_last_while_opening_is_said_in_our_words_and_leaves_nothing_open(
    tmp_path: Path,
) -> None:
    def forbids(connection: apsw.Connection) -> None:
        connection.authorizer = lambda action, name, *_: (
            apsw.SQLITE_DENY if action == apsw.SQLITE_PRAGMA and name == "data_version" else apsw.SQLITE_OK
        )

    before = set(threading.enumerate())
    apsw.connection_hooks.append(forbids)
    try:
        with pytest.raises(StoreError, match="not authorized") as kept:
            await SQLiteStore(tmp_path / FILE).open()
    finally:
        apsw.connection_hooks.remove(forbids)
    assert set(threading.enumerate()) == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE], f"a connection is open since {kept!r}"


# A runtime ------------------------------------------------------------------------------------------------------------


class Till:
    """The world outside: which calls took money."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def agent(self) -> Agent:
        @tool(effect="once")
        async def pay(ctx: Context, cents: int) -> str:
            """Pay, once."""
            self.taken[ctx.call.key] += 1
            return f"paid {cents} " + "x" * 1_000

        def choose(request: Request) -> Move:
            asked = request.messages[-1].role == "user"
            return call("pay", cents=5) if asked else say("Paid. " + "y" * 1_000)

        return Agent("Work.", name="till", model=Sim.rule(choose), tools=[pay])


@pytest.mark.parametrize(("name", "lasting"), CASES_OF_A_RUNTIME)
async def test_a_runtime_survives(name: str, lasting: bool) -> None:
    tills: dict[Trial, Till] = {}

    async def turns(trial: Trial) -> None:
        till = tills[trial] = Till()
        runtime = Runtime(trial.store, drain=0)
        try:
            async with runtime:
                session = await runtime.session(till.agent())
                await session.run("Pay.")
                await session.run("Pay again.")
        except StoreError as error:
            trial.errors.append(error)

    assert await try_each(name, lasting, turns, lambda trial: goes_on(trial, tills.pop(trial))) > 0


async def goes_on(trial: Trial, till: Till) -> None:
    """Another runtime, on a disk that works, brings what was begun to its end, and each call has paid at most once."""
    losses, damage = await judge(trial.path, trial.store, trial.store.promises())
    assert (losses, damage) == ([], [])
    async with Runtime(trial.path, agents=[till.agent()]) as runtime:
        for head in await runtime.sessions():
            session = await runtime.open(head.session_id)
            assert (await session.run("And once more.")).status == "completed"
            assert problems_in(await session.events()) == []
    assert set(till.taken.values()) <= {1}


@pytest.mark.parametrize("name", NO_ROOM)
async def test_cp81_a_disk_that_fills_mid_turn_is_said_and_the_turn_resumes_when_there_is_room(
    name: str,
) -> None:
    tills: dict[Trial, Till] = {}

    async def fills(trial: Trial) -> None:
        till = tills[trial] = Till()
        try:
            async with Runtime(trial.store, drain=0) as runtime:
                session = await runtime.session(till.agent())
                try:
                    await session.run("Pay.", key="once")
                except StoreFull as error:
                    trial.errors.append(error)
                kept = await session.events()
                assert len(kept) >= len(trial.store.promises().logs.get(session.id, {})), "reads are served"
                trial.mend()
                if kept:
                    session = await runtime.open(session.id)
                    assert (await session.run("Pay.", key="once")).status == "completed"
                    assert problems_in(await session.events()) == []
        except StoreFull:
            assert not trial.store.asked, "only opening may be refused like that"

    assert await try_each(name, True, fills, lambda trial: goes_on(trial, tills.pop(trial))) > 20
