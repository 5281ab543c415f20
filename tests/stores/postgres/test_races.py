"""Several processes on the same few sessions, and a server that crashes under them.

`HOLDFAST_RACE_SECONDS` makes it longer, `HOLDFAST_RACERS` makes it more of them.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from holdfast.events import Event
from holdfast.stores.postgres import PostgresStore
from holdfast.testing.said import said, said_in
from tests.stores.postgres.server import Server

SECONDS = float(os.environ.get("HOLDFAST_RACE_SECONDS", "5"))
RACERS = int(os.environ.get("HOLDFAST_RACERS", "4"))
SESSIONS = ("session_a", "session_b", "session_c")
HOLD = 0.05
RACER = Path(__file__).with_name("racing_process.py")


class Reader:
    """Reads on from where it stands, again and again, while others write."""

    def __init__(self, store: PostgresStore, session_id: str) -> None:
        self.store = store
        self.session_id = session_id
        self.events: list[Event] = []

    async def follow(self) -> None:
        while True:
            await self.catch_up()
            await self.store.woken(0.02)

    async def catch_up(self) -> None:
        after = self.events[-1].sequence if self.events else 0
        self.events += await self.store.read(self.session_id, after=after, limit=50)


@pytest.fixture
async def store(own_server: Server) -> AsyncIterator[PostgresStore]:
    """An open store with the sessions, each with one event."""
    store = PostgresStore(own_server.url)
    await store.open()
    for name in SESSIONS:
        await store.append(name, said(name, 1, "begin"), expected=0, epoch=1)
    yield store
    await store.close()


@pytest.mark.timeout(60 + 10 * SECONDS)
async def test_cp10_cp67_of_many_processes_one_writes_at_a_time_and_no_reader_misses_anything(
    own_server: Server, store: PostgresStore
) -> None:
    readers = [Reader(store, name) for name in SESSIONS]
    following = [asyncio.create_task(reader.follow()) for reader in readers]
    lines = await race(own_server)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    for reader in readers:
        await reader.catch_up()
        log = await everything(store, reader.session_id)
        assert reader.events == log[: len(reader.events)]
        check_log(log)
        told = [line for line in lines if line[1] == reader.session_id]
        check_told(told, log)
        check_leases(told)


async def race(server: Server) -> list[list[str]]:
    """Let the racers run for as long as the server takes its crashes; what they said."""
    command = [sys.executable, str(RACER), server.url, str(HOLD), *SESSIONS]
    racers = [await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE) for _ in range(RACERS)]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert await racer.stdout.readline() == b"ready\n"
        outputs = [asyncio.create_task(racer.communicate()) for racer in racers]
        await crash_now_and_then(server)
        ended = [racer.pid for racer in racers if racer.returncode is not None]
    finally:
        for racer in racers:
            if racer.returncode is None:
                racer.kill()
    heard = await asyncio.gather(*outputs)
    assert [complaints for _, complaints in heard if complaints] == []
    assert ended == []
    return [line.split() for told, _ in heard for line in told.decode().splitlines()]


async def crash_now_and_then(server: Server) -> None:
    """Twice in all the time there is."""
    for _ in range(2):
        await asyncio.sleep(SECONDS / 3)
        server.kill()
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.start)
    await asyncio.sleep(SECONDS / 3)


async def everything(store: PostgresStore, session_id: str) -> list[Event]:
    found: list[Event] = []
    while page := await store.read(session_id, after=len(found)):
        found += page
    return found


def check_log(log: list[Event]) -> None:
    """It has no gap and no event twice."""
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))
    assert len({event.id for event in log}) == len(log)


def check_told(lines: list[list[str]], log: list[Event]) -> None:
    """What the racers were told is what happened."""
    epochs = [1, *[int(said_in(event).split()[1]) for event in log[1:]]]
    assert epochs == sorted(epochs), "an older epoch wrote after a newer one"
    owners = {int(line[2]): line[-1] for line in lines if line[0] == "claim"}
    assert len(owners) == sum(line[0] == "claim" for line in lines), "two claims got the same epoch"
    for event, epoch in zip(log[1:], epochs[1:], strict=True):
        writer = said_in(event).split()[0]
        assert writer == owners.get(epoch, writer), (
            f"{writer} wrote under epoch {epoch}, which is not its own"
        )
    acknowledged = [(int(line[2]), int(line[-1])) for line in lines if line[0] == "write"]
    for epoch, sequence in acknowledged:
        assert epochs[sequence - 1] == epoch, f"event {sequence}, acknowledged under epoch {epoch}, is lost"
    assert len(acknowledged) > 5 * SECONDS, "they hardly raced"
    assert len({owner.split("-")[0] for owner in owners.values()}) > 1, "nobody raced"


def check_leases(lines: list[list[str]]) -> None:
    """Nobody took a session from another owner before that one let go of it or its last lease could have run out."""
    ends: dict[int, float] = {}
    claims: dict[int, tuple[float, str]] = {}
    for kind, _, epoch, before, after, hold, subject in lines:
        ends[int(epoch)] = float(before) + float(hold)
        if kind == "claim":
            claims[int(epoch)] = float(after), subject
    for one, other in pairwise(sorted(claims)):
        if claims[one][1] != claims[other][1]:
            assert claims[other][0] >= ends[one] - 0.002, f"epoch {other} came before epoch {one} was over"
