"""The front door: a `Runtime` owns the store, the drivers, the services and every task.

async with Runtime("desk.db") as runtime:
    session = await runtime.session(agent)
    result = await session.run("What is 2 + 2?")
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary, ref

from holdfast.agent import Agent, Harness
from holdfast.clock import Clock, SystemClock
from holdfast.config import Config, Models
from holdfast.engines.local import Report, Worker, log
from holdfast.errors import ConfigError, RuntimeClosed, SessionHeld, StoreError, UnknownSession
from holdfast.events import Fact, SessionCreated
from holdfast.history import History
from holdfast.ids import check_id, new_id
from holdfast.journal import FIRST, UNCLAIMED, Journal
from holdfast.manifests import Manifests, Stack, own, stack
from holdfast.registry import Registry
from holdfast.runner import Runner
from holdfast.services import FILES, Key, Later, Scope
from holdfast.session import Session
from holdfast.state import State, TurnStatus
from holdfast.store import Head, Store
from holdfast.stores.memory import MemoryStore
from holdfast.stragglers import Stragglers
from holdfast.turn.input import check_metadata, check_text
from holdfast.workspace.log_files import LogFiles
from holdfast.writer import LEASE, READER, Writer, release_the_dead, this_process

Services = Mapping[Key[Any], Any]
"""Services by key, lent to sessions."""

_Given = tuple[Stack | None, Stack]
"""The layers given instead of the session's own, and those on top."""


LETTERS = 0.2
"""Seconds between looks for what other processes leave for the sessions at work here."""


class Runtime:
    """Sessions on a store.

    `store` is a path (one SQLite file), a `Store`, or None (everything in memory). `model` serves agents that name
    none. `services` are lent to every session. `registry` adds drivers and capabilities. `agents` are known by name, so
    that `open` finds a session's agent again. Leaving the context waits `drain` seconds for running turns to rest.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | Store | None = None,
        *,
        model: Models | None = None,
        agents: Iterable[Agent] = (),
        services: Services | None = None,
        registry: Registry | None = None,
        clock: Clock | None = None,
        drain: float = 30.0,
        lease: float = LEASE,
    ) -> None:
        self.registry = registry or Registry()
        self.store: Store = _store(store, self.registry)
        self.clock: Clock = clock or SystemClock()
        self._stragglers = Stragglers()
        self._manifests = Manifests(self.store, self.registry, model=model, agents=agents)
        self._services: dict[Key[Any], Any] = dict(services or {})
        self._lent: frozenset[Key[Any]] = frozenset({FILES, *self._services})
        self._drain = drain
        self._writer = this_process(lease)
        self._heart: asyncio.Task[None] | None = None
        self._may_hold = False
        """Whether any session here may have claimed a lease."""
        self._open = False
        self._tasks: set[asyncio.Future[None]] = set()
        self._post: asyncio.TimerHandle | asyncio.Task[None] | None = None
        """When letters are looked for next."""
        self._runners: WeakValueDictionary[str, Runner] = WeakValueDictionary()
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __aenter__(self) -> Self:
        await self.store.open()
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(drain=self._drain if kind is None else 0.0)

    @property
    def stragglers(self) -> tuple[str, ...]:
        """Tools, models and hooks that were told to stop and go on all the same; what comes of them is dropped."""
        return self._stragglers.names

    async def close(self, *, drain: float = 0.0) -> None:
        """Let running turns rest for `drain` seconds, stop them, close drivers and store. What was cut off stays owed
        in the log and goes on when its session is opened again."""
        self._open = False
        for runner in list(self._runners.values()):
            runner.retire()
        if self._tasks and drain > 0:
            await asyncio.wait(self._tasks, timeout=drain)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for runner in list(self._runners.values()):
            runner.stop()
        try:
            await self._stragglers.end()
            await self._let_go()
            await self.registry.close()
        finally:
            await self.store.close()

    async def _let_go(self) -> None:
        """End the heartbeat and the leases, so that others need not wait for them to run out."""
        if self._post is not None:
            self._post.cancel()
            self._post = None
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait([self._heart])
            self._heart = None
        if self._may_hold:
            self._may_hold = False
            with suppress(StoreError):  # then they run out by themselves
                await self.store.renew(self._writer.name, 0.0)

    async def session(
        self,
        agent: Agent | None = None,
        *,
        harness: Harness | None = None,
        title: str = "",
        metadata: Mapping[str, str] | None = None,
        config: Config | None = None,
        services: Services | None = None,
    ) -> Session:
        """A new session. Layers from the root up: `harness`, `agent` (either may be left out), then `config`.

        `services` are lent to this session on top of the runtime's. The session is durable with its first input, or
        at once when its layers bring files, which its workspace on the log then starts with.
        Raises `ConfigError` when the layers do not make a manifest, `InputRejected` for text that no log can hold.
        """
        self._check_open()
        check_text(title=title)
        check_metadata(metadata or {})
        if agent is not None:
            self._manifests.know(agent)
        layers = stack(harness, agent, config)
        state = State(session_id=new_id("session"))
        journal = Journal(self.store, self.clock.now, state, epoch=FIRST, writer=self._writer)
        session = self._seat(journal, layers, services)
        resolved = await self._manifests.of(layers, self._lent_with(services))
        journal.stage(
            SessionCreated(
                harness=harness.name if harness else "",
                agent=agent.name if agent else "",
                layers=resolved.written,
                title=title,
                metadata=dict(metadata or {}),
            )
        )
        files = journal.scope[FILES] if resolved.manifest.files else None
        if isinstance(files, LogFiles):
            for file in resolved.manifest.files:
                await files.seed(file.path, file.content.encode(), read_only=file.read_only)
        return session

    async def open(
        self,
        session_id: str,
        agent: Agent | None = None,
        *,
        harness: Harness | None = None,
        config: Config | None = None,
        services: Services | None = None,
        drive: bool = True,
        read_only: bool = False,
    ) -> Session:
        """A session that exists. Whatever its log says is owed goes on at once, unless another process is at it.

        Without `agent` and `harness`, the session's own are used: an agent of that name that this runtime knows, else
        what the log holds of them (everything but functions). Without `drive` inputs and answers are recorded, and
        whoever drives the session goes on with them; with `read_only` nothing is written.
        Raises `UnknownSession`, and `ConfigError` when the agent has functions that must be given again.
        """
        self._check_open()
        async with self._opening.setdefault(session_id, asyncio.Lock()):
            runner = self._runners.get(session_id)
            if runner is not None and runner.journal.broken is None:
                return Session(runner)
            given = stack(harness, agent, None) if agent or harness else None
            drive = drive and not read_only
            name = READER if read_only else self._writer.name
            writer = Writer(name=name, lease=self._writer.lease if drive else 0.0)
            return await self._load(session_id, (given, own(config)), services, writer, drive=drive)

    async def _load(
        self, session_id: str, layers: _Given, services: Services | None, writer: Writer, *, drive: bool
    ) -> Session:
        history = History(self.store)
        state = await history.load(check_id("session", session_id))
        if state.sequence == 0:
            raise UnknownSession(
                f"this store has no session {session_id}; `holdfast sessions` lists those it has"
            )
        given, own = layers
        given = (*(given or await self._manifests.recall(state, drive=drive)), *own)
        journal = Journal(self.store, self.clock.now, state, epoch=UNCLAIMED, writer=writer, history=history)
        session = self._seat(journal, given, services, drive=drive)
        if drive:
            await journal.keep_state()
            with suppress(SessionHeld):  # another process is at work on it: it can be followed here
                await session.resume()
        return session

    async def recover(self) -> list[Session]:
        """Open every session that has something due and that nobody is at work on, and go on with it.

        Sessions whose agent this runtime does not know stay as they are: give their agents to `Runtime(agents=...)`.
        """
        self._check_open()
        await release_the_dead(self.store)
        found = []
        for session_id in await self.store.due(self.clock.now(), limit=1_000):
            with suppress(ConfigError, SessionHeld):
                found.append(await self.open(session_id))
        return found

    async def work(
        self,
        *,
        sessions: int = 32,
        stop: asyncio.Event | None = None,
        take: Callable[[str], Awaitable[object | None]] | None = None,
        report: Report = log,
    ) -> None:
        """Be a worker: `drive` whatever is due, `sessions` at a time, until `stop` is set (or for ever).

        Then what is under way may rest for `drain` seconds. `take` does something around `drive`; `report` is told of
        each session that is left, and why. Any number of workers may share a store.
        """
        self._check_open()
        worker = Worker(
            lambda limit: self.store.due(self.clock.now(), limit=limit),
            take or self.drive,
            self.store.woken,
            partial(release_the_dead, self.store),
            sessions=sessions,
            report=report,
        )
        await worker.run(stop or asyncio.Event(), self._drain)

    async def drive(self, session_id: str) -> TurnStatus | None:
        """Go on with what this session owes, until it rests; how its last turn did. None when nothing was owed.

        Raises `SessionHeld` while another process is at work on it, and what `open` raises.
        """
        session = await self.open(session_id)
        before = session.state.sequence
        await session.resume()
        runner, status = self._runners[session_id], None
        runner.patient = False
        while (turn_id := _next_turn(session.state)) and status not in ("waiting", "queued"):
            status = (await runner.result(turn_id)).status
        if status is None and session.state.outcome is not None and session.state.sequence > before:
            return session.state.outcome.status  # a letter asked for it, and it is over already
        return status

    async def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """Sessions in this store, the most recently written first."""
        self._check_open()
        return await self.store.sessions(limit=limit, offset=offset)

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeClosed

    def _lent_with(self, services: Services | None) -> frozenset[Key[Any]]:
        """Keys of all that a session with these services of its own is lent."""
        return self._lent | frozenset(services) if services else self._lent

    def _seat(
        self,
        journal: Journal,
        layers: Stack,
        services: Services | None,
        *,
        drive: bool = True,
    ) -> Session:
        """Put a journal together with its scope and the runner that drives it."""
        self._may_hold = self._may_hold or journal.writer.name != READER
        lent = {FILES: Later(partial(_log_files, ref(journal))), **self._services, **(services or {})}
        journal.scope, journal.stragglers = Scope(lent), self._stragglers
        manifest = partial(self._manifests.manifest, layers, self._lent_with(services))
        runner = Runner(journal, self._spawn, manifest, drives=drive, listen=self._listen)
        if drive:
            self._runners[journal.state.session_id] = runner
        return Session(runner)

    def _spawn(self, job: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        if not self._open:
            job.close()
        self._check_open()
        task = self._stragglers.unit(job)
        if self._heart is None:
            self._heart = asyncio.get_running_loop().create_task(self._beat())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _listen(self) -> None:
        """Look for letters a little later, once for however many sessions ask."""
        if self._post is None and self._open:
            loop = asyncio.get_running_loop()
            self._post = loop.call_later(
                LETTERS, lambda: setattr(self, "_post", loop.create_task(self._deliver()))
            )

    async def _deliver(self) -> None:
        """Have the sessions at work here take in what others left for them; again later, as long as any is."""
        try:
            for session_id in await self.store.posted(self._writer.name):
                if runner := self._runners.get(session_id):
                    await runner.collect()
        except StoreError:
            pass  # the letters stay, and the next look finds them
        finally:
            self._post = None
        if any(runner.busy for runner in self._runners.values()):
            self._listen()

    async def _beat(self) -> None:
        """Keep the leases of sessions at work, also while a model streams or a tool sleeps."""
        while True:
            await asyncio.sleep(self._writer.lease / 3)
            if self._tasks:
                with suppress(
                    StoreError
                ):  # the next beat tries again, and the epoch guards the log meanwhile
                    await self.store.renew(self._writer.name, self._writer.lease)


def _next_turn(state: State) -> str:
    if state.turn is not None:
        return state.turn.id
    if state.reruns:
        return state.reruns[0].turn_id
    return state.queue[0].turn_id if state.queue else ""


def _log_files(session: ref[Journal]) -> LogFiles:
    """The session's files. Taken weakly, so that a session whose files nobody touches holds no circle."""
    journal = session()
    assert journal is not None
    store = journal.store
    return LogFiles(
        index=lambda: journal.state.files,
        record=partial(_record, journal),
        put_blob=store.put_blob,
        get_blob=store.get_blob,
    )


async def _record(journal: Journal, *facts: Fact) -> None:
    await journal.own()
    await journal.record(*facts)


def _store(store: str | os.PathLike[str] | Store | None, registry: Registry) -> Store:
    if store is None:
        return MemoryStore()
    return registry.store(store) if isinstance(store, str | os.PathLike) else store
