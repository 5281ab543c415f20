"""What is particular to the memory store."""

import asyncio

from holdfast.stores.memory import MemoryStore
from holdfast.testing.said import said


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
