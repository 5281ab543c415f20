"""What one process of a case does with its life."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from holdfast import Event, Runtime, Session, SQLiteStore, Turn
from holdfast.errors import SessionHeld, StoreError
from holdfast.events import TURN_ENDS
from holdfast.store import Store
from holdfast.stores.postgres import PostgresStore
from holdfast.stores.sqlite_file import SQLiteFile
from tests.crash.scenarios import PACE, Scenario, agent_of
from tests.crash.world import Fuse, Line, World

TICK = 0.005
LEASE = 2.0
"""Seconds: who holds a session for no reason, and lives, holds it no longer than this."""


class _Watched:
    """A real store that says when it is somewhere a process may die."""

    fuse: Fuse

    def append(self, session_id: str, events: Sequence[Event], **options: Any) -> Future[None]:
        self.fuse.passes("before append")
        write: Future[None] = super().append(session_id, events, **options)  # type: ignore[misc]
        self.fuse.passes("in append")
        write.add_done_callback(lambda _: self.fuse.passes("after append"))
        return write

    async def claim(self, session_id: str, **options: Any) -> int:
        self.fuse.passes("before claim")
        epoch: int = await super().claim(session_id, **options)  # type: ignore[misc]
        self.fuse.passes("after claim")
        return epoch


class _WatchedFile(SQLiteFile):
    """Says when a transaction is about to go to the disk, which takes until some moments later."""

    def __init__(self, path: Path, fuse: Fuse) -> None:
        super().__init__(path, 5.0, None)
        self._fuse = fuse

    def open_for_writing(self) -> apsw.Connection:
        connection = super().open_for_writing()
        connection.set_commit_hook(self._commits)
        return connection

    def _commits(self) -> bool:
        self._fuse.passes("in commit")
        return False  # go on


class WatchedSQLite(_Watched, SQLiteStore):
    def __init__(self, path: Path, fuse: Fuse) -> None:
        super().__init__(path)
        self.fuse = fuse
        self._file = _WatchedFile(path, fuse)


class WatchedPostgres(_Watched, PostgresStore):
    def __init__(self, url: str, schema: str, fuse: Fuse) -> None:
        super().__init__(url, schema=schema, pool_size=2)
        self.fuse = fuse


def store_at(place: Path, url: str, fuse: Fuse) -> Store:
    """The case's database: a file, or a schema that is called like its folder."""
    return WatchedPostgres(url, place.name, fuse) if url else WatchedSQLite(place / "log.db", fuse)


class Life:
    """A process: it opens the database, goes on with what is owed, and does its part."""

    def __init__(self, scenario: Scenario, place: Path, url: str, fuse: Fuse) -> None:
        self._scenario = scenario
        self._world = World(place, fuse)
        self._store = store_at(place, url, fuse)
        self._fuse = fuse
        self._agent = agent_of(scenario, self._world)
        self._approver = scenario.approver() if scenario.approver else None

    async def prepare(self) -> None:
        """Make the sessions that several processes will work on."""
        async with self._runtime() as runtime:
            for title in self._titles():
                session = await runtime.session(self._agent, title=title)
                await session.update(title=title)

    async def client(self) -> None:
        """Send everything, with its keys, and see it to its end."""
        self._fuse.passes("any")
        async with self._runtime() as runtime:
            if self._scenario.shared == "workers":
                await asyncio.gather(*[self._hand_in(runtime, title) for title in self._titles()])
            else:
                if not self._scenario.shared:
                    await runtime.recover()
                known = await _by_title(runtime)
                await asyncio.gather(*[self._serve(runtime, title, known) for title in self._titles()])

    async def work(self) -> None:
        """Take up whatever is due, until somebody kills this process."""
        async with self._runtime() as runtime:
            await runtime.work()

    def _runtime(self) -> Runtime:
        return Runtime(self._store, agents=[self._agent], lease=LEASE)

    def _titles(self) -> list[str]:
        return [f"session {number}" for number in range(self._scenario.sessions)]

    async def _serve(self, runtime: Runtime, title: str, known: dict[str, str]) -> None:
        while True:
            try:
                if title in known:
                    session = await runtime.open(known[title])
                    await session.resume()
                else:
                    session = await runtime.session(self._agent, title=title)
                await self._drive(session, title)
                return
            except SessionHeld:  # the rival is at work on it
                await asyncio.sleep(TICK)

    async def _drive(self, session: Session, title: str) -> None:
        turns = [await self._send(session, title, place) for place in range(len(self._scenario.inputs))]
        if self._scenario.steer:
            await asyncio.sleep(PACE * 4)
            turn = await session.steer(self._scenario.steer, key="steer")
            self._accepted(title, "steer", turn)
        if self._scenario.cancel and turns[0].status == "running":
            await asyncio.sleep(PACE * 4)
            await turns[0].cancel("took too long")
        await self._see_to_rest(session)
        for turn in turns:
            result = await turn
            self._world.note(
                Line(what="told", session=title, turn=turn.id, status=result.status, text=result.text)
            )

    async def _send(self, session: Session, title: str, place: int) -> Turn:
        turn = await session.send(self._scenario.inputs[place], key=f"input {place}")
        self._accepted(title, f"input {place}", turn)
        return turn

    def _accepted(self, title: str, key: str, turn: Turn) -> None:
        self._world.note(Line(what="accepted", session=title, label=key, turn=turn.id))

    async def _see_to_rest(self, session: Session) -> None:
        """Answer what is asked, and let a turn that was cut off too often go on."""
        while session.state.turn is not None or session.state.queue:
            turn = session.turn
            if (
                turn is None
            ):  # it may be queued elsewhere: awaiting it looks at the log, and takes over if need be
                await session.handle(session.state.queue[0].turn_id)
            elif (await turn).status != "waiting" or (
                self._approver is not None and await self._approver.answer(session)
            ):
                continue
            elif session.state.turn is not None and session.state.turn.parked:
                self._world.note(Line(what="parked", session=session.state.title))
                await session.resume(by="the harness")

    async def _hand_in(self, runtime: Runtime, title: str) -> None:
        """Send the inputs and leave the work to the workers; wait until they are done."""
        session_id = (await _by_title(runtime))[title]
        sent = 0
        while sent < len(self._scenario.inputs):
            try:
                session = await runtime.open(session_id, drive=False)
                await self._send(session, title, sent)
                sent += 1
            except SessionHeld:
                await asyncio.sleep(TICK)
        turns = [line.turn for line in self._world.lines("accepted") if line.session == title]
        while not set(turns) <= await _ended(runtime, session_id):
            await self._wait(runtime)

    async def _wait(self, runtime: Runtime) -> None:
        try:
            await runtime.store.woken(0.05)
        except StoreError:
            await asyncio.sleep(TICK)


async def _by_title(runtime: Runtime) -> dict[str, str]:
    """The sessions of this database, by their titles, looked at without touching them."""
    found = {}
    for head in await runtime.sessions(limit=1_000):
        session = await runtime.open(head.session_id, read_only=True)
        found[session.state.title] = head.session_id
    return found


async def _ended(runtime: Runtime, session_id: str) -> set[str]:
    events = await runtime.store.read(session_id)
    return {event.context.turn_id for event in events if event.type in TURN_ENDS}
