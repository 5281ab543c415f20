"""What may be tried on the log itself: rows 124 and 125 of the checklist."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast import Agent, Runtime, SQLiteStore, StoreError
from holdfast.drivers.sim import Sim
from holdfast.errors import StoreCorrupt

AGENT = Agent(name="echo", model=Sim.always("Honest words."))


async def two_sessions(place: Path) -> tuple[str, str]:
    """Two sessions that have said something, by their ids."""
    async with Runtime(place, agents=[AGENT]) as runtime:
        found = [await runtime.session(AGENT) for _ in range(2)]
        for session in found:
            await session.run("Hello.")
        return found[0].id, found[1].id


@asynccontextmanager
async def opened(place: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(place)
    await store.open()
    yield store
    await store.close()


def change(place: Path, statement: str, session_id: str) -> None:
    """Change rows of this session's log, as somebody with the file may."""
    with sqlite3.connect(place) as database:
        of_session = "key >> 32 = (SELECT number FROM sessions WHERE id = ?)"
        assert database.execute(f"{statement} AND {of_session}", (session_id,)).rowcount >= 1
    database.close()


async def test_s124_no_writer_can_write_where_something_is_written_already(tmp_path: Path) -> None:
    first, _ = await two_sessions(tmp_path / "log.db")
    async with opened(tmp_path / "log.db") as store:
        events = await store.read(first)
        epoch = await store.claim(first, owner="eve")
        for expected, event in enumerate(events):
            with pytest.raises(StoreError):
                await store.append(first, [event], expected=expected, epoch=epoch)
        assert await store.read(first) == events


async def test_s124_words_that_were_rewritten_in_the_file_are_detected(tmp_path: Path) -> None:
    first, _ = await two_sessions(tmp_path / "log.db")
    change(tmp_path / "log.db", "UPDATE events SET body = replace(body, 'Honest', 'Forged') WHERE 1", first)
    async with Runtime(tmp_path / "log.db", agents=[AGENT]) as runtime:
        with pytest.raises(StoreCorrupt):
            await (await runtime.open(first, read_only=True)).messages()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM events WHERE key & 0xffffffff = 3",
        "UPDATE events SET body = '{' WHERE key & 0xffffffff = 3",
        "UPDATE events SET body = replace(body, '\"sequence\":3', '\"sequence\":4') WHERE key & 0xffffffff = 3",
        "UPDATE events SET body = (SELECT body FROM events WHERE key & 0xffffffff = 2) WHERE key & 0xffffffff = 3",
        "DELETE FROM events WHERE key & 0xffffffff >= 4",
    ],
    ids=["taken out", "cut off", "renumbered", "swapped", "truncated"],
)
async def test_s125_a_log_that_was_damaged_is_refused_and_the_others_work(
    damage: str, tmp_path: Path
) -> None:
    first, second = await two_sessions(tmp_path / "log.db")
    change(tmp_path / "log.db", damage, first)
    with sqlite3.connect(tmp_path / "log.db") as database:
        database.execute("DELETE FROM snapshots")
    database.close()
    async with Runtime(tmp_path / "log.db", agents=[AGENT]) as runtime:
        with pytest.raises(StoreError):
            await (await runtime.open(first)).run("Go on.")
        session = await runtime.open(second)
        assert (await session.run("Go on.")).status == "completed"
    async with opened(tmp_path / "log.db") as store:
        assert {it.where.partition(":")[0] for it in await store.check()} == {first}
