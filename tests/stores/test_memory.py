"""What is particular to the memory store."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from holdfast.errors import SessionHeld
from holdfast.store import Terms
from holdfast.stores.memory import MemoryStore
from holdfast.testing import run_virtual
from holdfast.testing.said import START, said


async def test_an_append_is_over_when_the_call_returns() -> None:
    store = MemoryStore()
    await store.open()
    assert store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1).done()
    assert store.append("session_a", said("session_a", 1, "no"), expected=0, epoch=1).exception() is not None


async def test_the_very_same_events_come_back() -> None:
    store = MemoryStore()
    await store.open()
    written = said("session_a", 1, "one", "two")
    await store.append("session_a", written, expected=0, epoch=1)
    read = await store.read("session_a")
    assert all(a is b for a, b in zip(written, read, strict=True))
    read.clear()
    written.clear()
    assert len(await store.read("session_a")) == 2


def test_the_content_outlives_an_event_loop() -> None:
    store = MemoryStore()

    async def write(n: int) -> int:
        await store.open()
        await store.append("session_a", said("session_a", n + 1, "hello"), expected=n, epoch=1)
        await store.close()
        return n

    assert [asyncio.run(write(n)) for n in range(3)] == [0, 1, 2]


Run = Callable[[Coroutine[None, None, None]], None]


def test_leases_run_on_the_time_of_the_loop() -> None:
    store = MemoryStore()

    async def main() -> None:
        await store.open()
        terms = Terms(owner="ann", hold=3_600, due=START)
        await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1, terms=terms)
        await asyncio.sleep(3_599)
        with pytest.raises(SessionHeld, match=r"held by 'ann' for another 1\.000 s"):
            await store.claim("session_a", owner="bob")
        await asyncio.sleep(1)
        assert await store.due(START) == ["session_a"]
        assert await store.claim("session_a", owner="bob") == 2

    run_virtual(main())


@pytest.mark.parametrize("first", [asyncio.run, run_virtual])
@pytest.mark.parametrize("second", [asyncio.run, run_virtual])
def test_a_lease_is_no_longer_on_a_loop_whose_time_begins_anew(first: Run, second: Run) -> None:
    store = MemoryStore()

    async def hold() -> None:
        await store.open()
        await asyncio.sleep(0.1)
        await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
        await store.claim("session_a", owner="ann", hold=0.2)

    async def take_over() -> None:
        await store.open()
        await store.open()
        await asyncio.sleep(0.2)
        assert await store.claim("session_a", owner="bob") == 3

    first(hold())
    second(take_over())


def test_a_lease_is_no_shorter_on_a_virtual_loop_after_another() -> None:
    store = MemoryStore()

    async def hold() -> None:
        await store.open()
        await asyncio.sleep(1_000)
        await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
        await store.claim("session_a", owner="ann", hold=30)

    async def look() -> None:
        await store.open()
        await asyncio.sleep(29)
        with pytest.raises(SessionHeld):
            await store.claim("session_a", owner="bob")

    run_virtual(hold())
    run_virtual(look())
