"""Stores: disks that fail, fail-overs, second processes, schemas of other versions, forks."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from holdfast import Runtime
from holdfast.drivers.sim import call
from holdfast.errors import OutcomeUnknown, SequenceConflict, StoreClosed, StoreCorrupt, StoreTooNew
from holdfast.stores import postgres_server, sqlite_file
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing import FailingStore, problems_in
from tests.failure_model.agents import agent_of, gated, toil
from tests.failure_model.disks import Disk, PostgresDisk, SQLiteDisk
from tests.failure_model.world import INPUT, World, serve
from tests.stores.disk import Disk as FailingDisk

AGENT = agent_of("Hello.", "Again.")


async def test_cp05_after_a_failed_sync_nothing_is_acknowledged_until_the_file_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk(monkeypatch)
    broken = [False]
    disk.fail = lambda step: apsw.SQLITE_IOERR_FSYNC if broken[0] and step.what == "sync" else 0
    async with Runtime(SQLiteStore(tmp_path / "log.db", vfs=disk.name), agents=[AGENT]) as runtime:
        session = await runtime.session(AGENT)
        await session.run("First.")
        before = await session.events()
        broken[0] = True
        with pytest.raises(OutcomeUnknown):
            await session.send(INPUT, key=INPUT)
        broken[0] = False  # as a disk does, which has forgotten what it could not write
        again = await runtime.open(session.id)
        with pytest.raises(StoreCorrupt):
            await again.send(INPUT, key=INPUT)
        assert (await again.events())[: len(before)] == before, "reads are served"
    async with Runtime(tmp_path / "log.db", agents=[AGENT]) as runtime:
        session = await runtime.open(session.id)
        assert (await session.run(INPUT, key=INPUT)).text == "Again."
        events = await session.events()
        assert problems_in(events) == []
        assert [event.type for event in events].count("input.message") == 2


@pytest.mark.parametrize("at", [1, 2, 3])
async def test_cp05_a_store_whose_disk_failed_acknowledges_nothing_more_until_it_is_opened_anew(
    world: World, at: int
) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world)])
    store = FailingStore(world.disk.store(), StoreCorrupt("the disk failed"), at=at, times=None)
    async with Runtime(store, agents=[agent]) as runtime:
        with pytest.raises(StoreCorrupt, match="the disk failed"):
            await serve(runtime, agent)
        await store.renew(runtime._writer.name, 0.0)
    done = len(world.ledger)
    after = await world.go_on(agent)
    assert (after.status, len(world.ledger)) == ("completed", 1)
    assert done <= 1


async def test_cp79_a_fail_over_that_lost_the_tail_is_noticed_by_the_first_write(world: World) -> None:
    model, agent = gated(world)
    async with world.runtime(agent) as runtime:
        session = await runtime.session(agent)
        turn = await session.send(INPUT)
        await model.asked.wait()
        await world.disk.lose_tail(session.id, 2)
        lost = await world.log()
        assert [event.type for event in lost] == ["session.created", "input.message"]
        model.gate.set()
        with pytest.raises(SequenceConflict, match="ends at event 2"):
            await turn
        with pytest.raises(StoreCorrupt, match="lost its end"):
            await session.send("Again.")
        assert await world.log() == lost
    assert world.ledger == []


async def test_cp80_a_second_process_on_one_store_works_beside_the_first(world: World) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world)])
    async with world.runtime(agent) as one, world.runtime(agent) as other:
        sessions = [await runtime.session(agent) for runtime in (one, other, one, other)]
        ends = await asyncio.gather(*[session.run(INPUT) for session in sessions])
        assert [end.text for end in ends] == ["Done."] * 4
        assert len(await one.sessions()) == 4
        for session in sessions:
            assert problems_in(await world.log(session.id)) == []
    assert len(world.ledger) == 4


@pytest.mark.parametrize("disk", ["sqlite", "postgres"], indirect=True)
async def test_cp82_a_schema_of_a_newer_release_is_refused_and_left_alone(disk: Disk) -> None:
    world = World(disk)
    await world.go_on(AGENT)
    await world.end()
    if isinstance(disk, SQLiteDisk):
        connection = sqlite3.connect(disk.path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        assert isinstance(disk, PostgresDisk)
        await disk.execute("INSERT INTO holdfast_migrations (number) VALUES (99)")
    with pytest.raises(StoreTooNew):
        await disk.store().open()


@pytest.mark.parametrize("disk", ["sqlite", "postgres"], indirect=True)
async def test_cp82_a_migration_that_fails_leaves_everything_as_it_was(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(disk)
    before = (await world.go_on(AGENT)).events
    await world.end()
    module: Any = sqlite_file if disk.name == "sqlite" else postgres_server
    half = (
        "CREATE TABLE half (id INTEGER) STRICT"
        if disk.name == "sqlite"
        else "CREATE TABLE holdfast.half (id int)"
    )
    bad = f"{half}; SELECT * FROM no_such_table;"
    migrations: Callable[[], tuple[str, ...]] = module.migrations
    with monkeypatch.context() as patch:
        patch.setattr(module, "migrations", lambda: (*migrations(), bad))
        with pytest.raises(Exception, match="no_such_table"):
            await disk.store().open()
    world = World(disk)
    assert await world.log() == before
    assert (await world.go_on(AGENT, INPUT, "More.")).text == "Again."
    await world.end()


@pytest.mark.parametrize("disk", ["sqlite", "postgres"], indirect=True)
async def test_cp84_a_store_that_was_forked_is_refused_by_the_child(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(disk)
    await world.go_on(AGENT)
    store = await world.watcher()
    process = os.getpid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: process + 1)
        with pytest.raises(StoreClosed, match="fork"):
            await store.sessions()
        with pytest.raises(StoreClosed, match="fork"):
            await store.put_blob(b"x")
    assert len(await store.sessions()) == 1
    await world.end()


async def test_cp04_an_append_whose_reply_was_lost_is_read_back_and_not_made_twice(world: World) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world)])
    store = FailingStore(world.disk.store(), OutcomeUnknown(), at=3, done=True)
    async with Runtime(store, agents=[agent]) as runtime:
        with pytest.raises(OutcomeUnknown):
            await serve(runtime, agent)
        await store.renew(runtime._writer.name, 0.0)
    after = await world.go_on(agent)
    assert after.kinds.count("tool.completed") == 1
    assert len(world.ledger) == 1
