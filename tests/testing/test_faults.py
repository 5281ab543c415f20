"""Stores that fail: they keep the contract while they do not, and a runtime loses and doubles nothing when they do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import pytest

from holdfast import Agent, Context, MemoryStore, Runtime, TurnResult, tool
from holdfast.drivers.sim import Sim, calls
from holdfast.errors import OutcomeUnknown, StoreCorrupt, StoreError, StoreFull, StoreLocked
from holdfast.events import Event
from holdfast.store import Store
from holdfast.testing import (
    Crash,
    CrashingStore,
    FailingStore,
    Ledger,
    Simulation,
    SlowStore,
    StoreContract,
    VirtualClock,
    WrappedStore,
    problems_in,
    run_virtual,
)
from holdfast.testing.client import session_of
from holdfast.testing.faults import Boundaries, BoundedStore
from holdfast.testing.letter_contract import left_in, letter
from holdfast.testing.said import said, said_in, texts
from holdfast.testing.wrapped import Operation


class WrappedContract(StoreContract):
    """The contract, kept by a store in front of a memory store."""

    kept: Store

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        await self.kept.open()
        yield self.kept
        await self.kept.close()


class TestWrappedStore(WrappedContract):
    @pytest.fixture(autouse=True)
    def place(self) -> None:
        self.kept = WrappedStore(MemoryStore())


class TestSlowStore(WrappedContract):
    @pytest.fixture(autouse=True)
    def place(self) -> None:
        self.kept = SlowStore(MemoryStore(), 0.001)


def an_agent(ledger: Ledger) -> Agent:
    """One that acts once and looks something up, side by side."""

    @tool(effect="once")
    async def tell(ctx: Context) -> str:
        """Tell."""
        ledger.add(ctx.call.key)
        return "told"

    @tool(effect="pure")
    async def dump() -> str:
        """Show."""
        return "spam " * 100

    model = Sim.storyboard(calls(("tell", {}), ("dump", {})), "Done.")
    return Agent("You help.", name="helper", model=model, tools=[tell, dump])


async def log_of(store: Store) -> list[Event]:
    """The one log in this store."""
    await store.open()
    (head,) = await store.sessions()
    return await store.read(head.session_id)


ERRORS = {
    "full": (StoreFull("no space left"), False),
    "locked": (StoreLocked("somebody else writes"), False),
    "unknown, not done": (OutcomeUnknown("no answer"), False),
    "unknown, done": (OutcomeUnknown("no answer"), True),
}


@pytest.mark.parametrize("operation", ["append", "put_blob", "claim", "read", "sessions"])
@pytest.mark.parametrize("what", ERRORS)
def test_a_turn_survives_any_operation_that_fails(what: str, operation: Operation) -> None:
    error, done = ERRORS[what]
    number, failed = 0, True
    while failed:
        number += 1
        failed = run_virtual(one_failure(error, operation, number, done=done))
    assert number > 1, "no such operation was ever asked for"


async def one_failure(error: StoreError, operation: Operation, number: int, *, done: bool) -> bool:
    """Begin, go on with a store that fails once, end on a sound one, and look at the log; whether it failed."""
    disk, ledger = MemoryStore(), Ledger()
    agent = an_agent(ledger)
    async with Runtime(disk, clock=VirtualClock(), drain=0) as runtime:
        await (await runtime.session(agent)).send("Do it.", key="the one input")
    faulty = FailingStore(disk, error, at=number, operation=operation, done=done)
    with suppress(type(error)):
        await finish(faulty, agent)
    result = await finish(disk, agent)
    assert result.status == "completed"
    assert problems_in(await log_of(disk)) == []
    assert len(ledger.entries) == 1 or (result.in_doubt and not ledger.entries)
    return faulty.failed > 0


async def finish(store: Store, agent: Agent) -> TurnResult:
    """Take over the one session of this store, as soon as it is free, and see its one turn to its end."""
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        session = await session_of(runtime, agent)
        return await session.run("Do it.", key="the one input")


def test_a_failure_is_told_to_whoever_waits() -> None:
    async def main() -> None:
        store = FailingStore(MemoryStore(), StoreFull("no space left"), at=2, times=None)
        async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
            session = await runtime.session(an_agent(Ledger()))
            turn = await session.send("Do it.")
            with pytest.raises(StoreFull, match="no space left"):
                await turn
            with pytest.raises(StoreFull):
                await session.send("Again.")
        assert store.failed >= 1

    run_virtual(main())


def test_failures_come_as_often_as_they_are_told_to() -> None:
    async def main() -> list[bool]:
        store = FailingStore(MemoryStore(), StoreLocked(), at=2, times=2, operation="sessions")
        await store.open()
        went_well = []
        for _ in range(5):
            try:
                await store.sessions()
                went_well.append(True)
            except StoreLocked:
                went_well.append(False)
        assert store.failed == 2
        return went_well

    assert asyncio.run(main()) == [True, False, False, True, True]


def test_an_append_whose_answer_is_lost_is_done_all_the_same() -> None:
    async def main() -> None:
        disk = MemoryStore()
        store = FailingStore(disk, OutcomeUnknown(), done=True)
        await store.open()
        with pytest.raises(OutcomeUnknown):
            await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
        assert await texts(disk, "session_a") == ["one"]

    asyncio.run(main())


def test_an_operation_whose_answer_is_lost_is_done_all_the_same() -> None:
    async def main() -> None:
        disk = MemoryStore()
        store = FailingStore(disk, OutcomeUnknown(), done=True, operation="put_blob")
        await store.open()
        with pytest.raises(OutcomeUnknown):
            await store.put_blob(b"bytes")
        assert await disk.get_blob(await store.put_blob(b"bytes")) == b"bytes"

    asyncio.run(main())


def test_a_corrupt_blob_reaches_the_one_who_reads_it() -> None:
    async def main() -> None:
        store = FailingStore(MemoryStore(), StoreCorrupt("bits have rotted"), operation="get_blob")
        await store.open()
        digest = await store.put_blob(b"bytes")
        with pytest.raises(StoreCorrupt, match="rotted"):
            await store.get_blob(digest)
        assert await store.get_blob(digest) == b"bytes"

    asyncio.run(main())


def test_slow_appends_are_answered_late_and_in_order() -> None:
    async def main() -> None:
        loop, answered = asyncio.get_running_loop(), []
        disk = MemoryStore()
        store = SlowStore(disk, 5)
        await store.open()
        for n in range(5):
            write = store.append("session_a", said("session_a", n + 1, str(n)), expected=n, epoch=1)
            write.add_done_callback(lambda _, n=n: answered.append((n, round(loop.time()))))
        assert len(await store.read("session_a")) == 5
        assert answered == []
        await store.close()
        assert answered == [(n, 5) for n in range(5)]

    run_virtual(main())


def test_a_slow_refusal_is_a_refusal() -> None:
    async def main() -> None:
        store = SlowStore(MemoryStore(), 5)
        await store.open()
        with pytest.raises(StoreError, match="never claimed"):
            await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=7)

    run_virtual(main())


def test_a_turn_on_a_slow_store_takes_its_time_and_nothing_else_changes() -> None:
    async def main() -> float:
        disk = MemoryStore()
        async with Runtime(SlowStore(disk, 60), clock=VirtualClock()) as runtime:
            session = await runtime.session(an_agent(Ledger()))
            assert (await session.run("Do it.")).status == "completed"
        assert problems_in(await log_of(disk)) == []
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) >= 180


@pytest.mark.parametrize(("append", "side", "left"), [(1, "before", 0), (1, "after", 1), (3, "before", 2)])
def test_a_process_dies_at_the_append_it_is_told_to(
    append: int, side: Literal["before", "after"], left: int
) -> None:
    disk, world = MemoryStore(), Simulation()
    store = CrashingStore(disk, append=append, side=side)
    heard: list[int] = []

    async def main() -> None:
        await store.open()
        for n in range(5):
            await store.append("session_a", said("session_a", n + 1, str(n)), expected=n, epoch=1)
            heard.append(n)

    with pytest.raises(Crash) as caught:
        world.run(main())
    assert caught.value.where == f"{side} append {append} (input.message)"
    assert len(heard) == append - 1
    assert len(world.run(read_all(disk))) == left


@pytest.mark.parametrize(
    ("at", "where", "left"),
    [(1, "before post 1", []), (2, "after post 1", ["hello"]), (3, "after discard 1", [])],
)
def test_a_process_can_die_on_either_side_of_a_letter(at: int, where: str, left: list[str]) -> None:
    disk, world = MemoryStore(), Simulation()
    store = BoundedStore(disk, Boundaries(at))

    async def main() -> None:
        await disk.open()
        await disk.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
        await store.post("session_a", letter("session_a", "hello"))
        (found,) = await store.letters("session_a")
        await store.discard("session_a", [found.number], epoch=1)

    async def found() -> list[str]:
        await disk.open()
        return await left_in(disk, "session_a")

    with pytest.raises(Crash) as caught:
        world.run(main())
    assert caught.value.where == where
    assert world.run(found()) == left


async def read_all(store: Store) -> list[Event]:
    await store.open()
    return await store.read("session_a")


def test_a_dead_process_writes_nothing_on_its_way_out() -> None:
    disk, world = MemoryStore(), Simulation()
    store = CrashingStore(disk, append=1, side="after")

    async def main() -> None:
        await store.open()
        try:
            await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
        finally:
            store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
            await store.put_blob(b"last words")

    with pytest.raises(Crash):
        world.run(main())
    assert [said_in(event) for event in world.run(read_all(disk))] == ["one"]


def test_what_is_written_in_the_step_that_dies_is_not_written() -> None:
    disk, world = MemoryStore(), Simulation()
    store = CrashingStore(disk, append=1, side="after")

    async def main() -> None:
        await store.open()
        store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
        await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)

    with pytest.raises(Crash):
        world.run(main())
    assert [said_in(event) for event in world.run(read_all(disk))] == ["one"]


def test_after_an_append_means_when_it_is_durable_and_nobody_has_been_told() -> None:
    disk, world = MemoryStore(), Simulation()
    heard: list[int] = []

    async def main() -> None:
        store = CrashingStore(SlowStore(disk, 5), append=2, side="after")
        await store.open()
        for n in range(5):
            await store.append("session_a", said("session_a", n + 1, str(n)), expected=n, epoch=1)
            heard.append(n)

    with pytest.raises(Crash):
        world.run(main())
    assert (world.now, heard) == (10, [0])
    assert len(world.run(read_all(disk))) == 2
