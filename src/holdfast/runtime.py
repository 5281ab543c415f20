"""The front door: a `Runtime` owns the store, the drivers, the services and every task.

async with Runtime("desk.db") as runtime:
    session = await runtime.session(agent)
    result = await session.run("What is 2 + 2?")
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary, ref

from holdfast.accounts import Accounts, Due, check_shared
from holdfast.agent import Agent, Harness
from holdfast.approver import Answering, Approver, approver_of
from holdfast.clock import Clock, SystemClock
from holdfast.config import Config, Models
from holdfast.engines.local import Report, Worker, log
from holdfast.errors import ConfigError, ManifestDrifted, RuntimeClosed, SessionHeld, UnknownSession
from holdfast.events import SessionCreated
from holdfast.history import History
from holdfast.hook import check_outside
from holdfast.ids import check_id, new_id
from holdfast.journal import FIRST, UNCLAIMED, Journal
from holdfast.manifests import Given, Manifests, Stack, stack
from holdfast.outcome import TurnStatus
from holdfast.privacy.redact import Redactor, check_secret, passwords_in
from holdfast.registry import Registry
from holdfast.runner import Runner
from holdfast.services import FILES, NO_PAYMENTS, PAYMENTS, Key, Later, Scope
from holdfast.session import Session
from holdfast.sink import SINKS, Ends, Sink, Sinks
from holdfast.standards import DEPENDENCIES, OnDrift, Standards, Status
from holdfast.state import State
from holdfast.store import Head, Listing, Store
from holdfast.turn.input import check_label, check_metadata
from holdfast.turn.till import Till
from holdfast.upkeep import Upkeep
from holdfast.watching.subscription import Gallery, Subscription, View, Watchable, subscribe
from holdfast.workspace.log_files import LogFiles, files_of
from holdfast.writer import LEASE, READER, Writer, this_process

Services = Mapping[Key[Any], Any]
"""Services by key, lent to sessions."""


class Runtime:
    """Sessions on a store.

    `store` is a path (one SQLite file), a `Store`, or None (everything in memory). `model` serves agents that name
    none. `services` are lent to every session. `registry` adds drivers and capabilities. `agents` are known by name, so
    that `open` finds a session's agent again. `approver` is asked first whenever somebody must answer. Leaving the
    context waits `drain` seconds for running turns to rest. `on_drift` says what becomes of a turn that is gone on with
    here and was begun under another manifest: `continue` under today's, `pin` it to its own, or `refuse`.
    """

    def __init__(  # noqa: PLR0913 - independent options of the front door, given by name
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
        approver: Approver | Answering | None = None,
        on_drift: OnDrift = "continue",
    ) -> None:
        self.registry = registry or Registry()
        self.store: Store = self.registry.store(store)
        self.clock: Clock = clock or SystemClock()
        self._redactor = Redactor()
        self._redactor.learn(passwords_in(store))
        base = Config(model=model, approver=approver_of(approver))
        self._manifests = Manifests(self.store, self.registry, base, agents, self._redactor)
        self._standards = Standards(
            self.store, self.clock.now, self.registry, self._manifests.documents, on_drift
        )
        self._services: dict[Key[Any], Any] = dict(services or {})
        self._drain = drain
        self._writer = this_process(lease)
        self._runners: WeakValueDictionary[str, Runner] = WeakValueDictionary()
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sinks = Sinks()
        self._gallery = Gallery(self.store, self._runners)
        self._upkeep = Upkeep(self.store, self._writer, self._runners, self._standards.roster.fresh)

    async def __aenter__(self) -> Self:
        self._redactor.learn_from(self.store)
        self._redactor.watch_logs()
        try:
            await self.store.open()
        except BaseException:  # cancelled or failed: nobody will leave what was not entered
            self._redactor.leave_logs()
            raise
        self._upkeep.open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(drain=self._drain if kind is None else 0.0)

    @property
    def stragglers(self) -> tuple[str, ...]:
        """Tools, models and hooks that were told to stop and go on all the same; what comes of them is dropped."""
        return self._upkeep.stragglers.names

    async def close(self, *, drain: float = 0.0) -> None:
        """Let running turns rest for `drain` seconds, stop them, close drivers and store. What was cut off stays owed
        in the log and goes on when its session is opened again."""
        await self._upkeep.rest(drain)
        try:
            await self._gallery.close(
                RuntimeClosed("the runtime was closed; subscribe again with another one")
            )
            await self._upkeep.end()
            await self.registry.close()
        finally:
            try:
                await self.store.close()
            finally:
                self._redactor.leave_logs()

    async def session(
        self,
        agent: Agent | None = None,
        *,
        harness: Harness | None = None,
        title: str = "",
        metadata: Mapping[str, str] | None = None,
        config: Config | None = None,
        services: Services | None = None,
        principal: str = "",
        organisation: str = "",
    ) -> Session:
        """A new session. Layers from the root up: `harness`, `agent` (either may be left out), then `config`.

        `services` are lent to this session on top of the runtime's. The session is durable with its first input, or
        at once when its layers bring files, which its workspace on the log then starts with.
        Raises `AgentUnavailable` for an agent or harness that was archived, `ConfigError` when the layers do not make a
        manifest, `InputRejected` for text that no log can hold.
        """
        self._upkeep.check_open()
        check_label(title=title, principal=principal, organisation=organisation)
        check_metadata(metadata or {})
        if agent is not None:
            self._manifests.know(agent)
        layers = stack(harness, agent, config)
        state = State(session_id=new_id("session"))
        journal = Journal(self.store, self.clock.now, state, epoch=FIRST, writer=self._writer)
        runner = self._seat(journal, layers, services)
        await journal.scope[DEPENDENCIES].check()
        manifest = await runner.manifest()
        check_shared(manifest, self.store, principal, organisation)
        check_outside(manifest.hooks, {**self._services, **(services or {})}.get(FILES))
        journal.stage(
            SessionCreated(
                harness=harness.name if harness else "",
                agent=agent.name if agent else "",
                layers=manifest.written,
                title=title,
                metadata=dict(metadata or {}),
                principal=principal,
                organisation=organisation,
            )
        )
        files = journal.scope[FILES] if manifest.files else None
        if isinstance(files, LogFiles):
            for file in manifest.files:
                await files.seed(file.path, file.content.encode(), read_only=file.read_only)
        return Session(runner)

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
        on_drift: OnDrift | None = None,
    ) -> Session:
        """A session that exists. Whatever its log says is owed goes on at once, unless another process is at it.

        What is given of `agent`, `harness` and `config` takes the place of the session's own; of the rest, an agent of
        its name that this runtime knows is used, and what the log holds (everything but functions). Without `drive`
        inputs and answers are recorded, for whoever drives it; with `read_only` nothing is written. `on_drift` is the
        runtime's, for this session. Raises `UnknownSession`, and `ConfigError` when functions must be given again.
        """
        self._upkeep.check_open()
        async with self._opening.setdefault(session_id, asyncio.Lock()):
            runner = self._runners.get(session_id)
            if runner is not None and not read_only and runner.journal.broken is None:
                if runner.drift is not None:
                    runner.drift.always(on_drift)
                if drive:
                    await runner.catch_up()
                return Session(runner)
            given = Given(harness=harness, agent=agent, config=config)
            drive = drive and not read_only
            name = READER if read_only else self._writer.name
            writer = Writer(name=name, lease=self._writer.lease if drive else 0.0)
            return await self._load(session_id, given, services, writer, on_drift, drive=drive)

    async def _load(
        self,
        session_id: str,
        given: Given,
        services: Services | None,
        writer: Writer,
        on_drift: OnDrift | None,
        *,
        drive: bool,
    ) -> Session:
        history = History(self.store)
        state = await history.load(check_id("session", session_id))
        if state.sequence == 0:
            raise UnknownSession(
                f"this store has no session {session_id}; `holdfast sessions` lists those it has"
            )
        layers = await self._manifests.recall(state, given, drive=drive)
        journal = Journal(self.store, self.clock.now, state, epoch=UNCLAIMED, writer=writer, history=history)
        session = Session(self._seat(journal, layers, services, drive=drive, on_drift=on_drift))
        if drive:
            await journal.keep_state()
            # another process is at work on it, or it is refused: it can be followed here
            with suppress(SessionHeld, ManifestDrifted):
                await session.resume()
        return session

    async def recover(self) -> list[Session]:
        """Open every session that has something due and that nobody is at work on, and go on with it.

        Sessions whose agent this runtime does not know stay as they are: give their agents to `Runtime(agents=...)`.
        """
        self._upkeep.check_open()
        due, found = Due(self.store, self.clock.now), []
        await due.tend()
        for session_id in await due.all():
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
        self._upkeep.check_open()
        due = Due(self.store, self.clock.now)
        worker = Worker(
            due,
            take or self.drive,
            self.store.woken,
            due.tend,
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
        while (turn_id := session.state.next_turn) and status not in ("waiting", "queued"):
            status = (await runner.result(turn_id)).status
        if status is None and session.state.outcome is not None and session.state.sequence > before:
            return session.state.outcome.status  # a letter asked for it, and it is over already
        return status

    async def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """Sessions in this store, the most recently written first."""
        self._upkeep.check_open()
        return await self.store.sessions(limit=limit, offset=offset)

    async def archive(
        self, it: Agent | Harness, *, by: str = "", reason: str = "", deleted: bool = False
    ) -> None:
        """Put an agent or a harness, known by its name, out of use in this store, for every process, within a second.

        No session begins with it, sessions that stand on it take no input (`AgentUnavailable`), and their turns end
        before the next model call or tool, with the code `agent_archived` or the like; what was started comes to its
        outcome. `deleted` is for good. Raises `UsageError` (for one without a name of its own, too),
        `RosterUnsupported`, `StoreError`.
        """
        self._upkeep.check_open()
        status: Status = "deleted" if deleted else "archived"
        await self._standards.enlist(it, status, *map(self._redactor.text, (by, reason)))

    async def restore(self, it: Agent | Harness, *, by: str = "", reason: str = "") -> None:
        """Put an archived agent or harness back into use. Raises as `archive` does; a deleted one stays deleted."""
        self._upkeep.check_open()
        await self._standards.enlist(it, "active", *map(self._redactor.text, (by, reason)))

    async def roster(self) -> list[Listing]:
        """The agents and harnesses of this store that were ever archived, deleted or restored, by kind and name."""
        self._upkeep.check_open()
        return await self._standards.roster.all()

    def subscribe(
        self, to: Watchable = None, *, after: str = "", view: View = "canonical", signals: bool = True
    ) -> Subscription:
        """Everything that happens in a session, a turn, the sessions of an agent, whatever a `Filter` matches, or
        (None) anywhere on this store: events from the logs, then as they are recorded, by this process or another.

        Use it as a context manager. `after` is the cursor of a subscription to the same; without, it begins with the
        first event, with `NOW` it begins now. That to a turn ends with the turn, and at once when it has ended. Raises
        `UsageError` for a filter that can match nothing, `CursorRefused`.
        """
        self._upkeep.check_open()
        return subscribe(self._gallery, to, after, view, signals=signals)

    @property
    def accounts(self) -> Accounts:
        """What principals and organisations have used, and how much more they may."""
        return Accounts(self.store, self.clock.now)

    def sink(
        self,
        name: str,
        sink: Sink,
        *,
        agents: Collection[str] | None = None,
        ends: Ends = ("completed",),
        timeout: float = 30.0,
    ) -> None:
        """Deliver the output of every turn that ends so, in sessions of these agents (None: all), to this sink, once.

        Register it before turns end. What is owed to a name stays owed until a runtime knows a sink by that name.
        Raises `UsageError` for a name that is taken, or what can never be delivered to.
        """
        self._redactor.learn_from(sink)
        self._sinks.add(name, sink, agents=agents, ends=ends, timeout=timeout)

    def protect(self, *secrets: str) -> None:
        """See to it that these values are in nothing that is recorded, shown or logged from now on, plain or encoded.

        Keys of drivers and the passwords of stores are protected by themselves. Raises `UsageError` for a value of
        less than eight characters.
        """
        self._redactor.learn([check_secret(secret) for secret in secrets])

    def _seat(
        self,
        journal: Journal,
        layers: Stack,
        services: Services | None,
        *,
        drive: bool = True,
        on_drift: OnDrift | None = None,
    ) -> Runner:
        """Put a journal together with its scope and what drives it."""
        self._upkeep.may_hold = self._upkeep.may_hold or journal.writer.name != READER
        files = Later(partial(files_of, ref(journal)))
        lent: dict[Key[Any], Any] = {
            FILES: files,
            SINKS: self._sinks,
            PAYMENTS: NO_PAYMENTS,
            **self._standards.lend(journal, [layer.name for layer in layers]),
            **self._services,
            **(services or {}),
        }
        journal.scope, journal.stragglers = Scope(lent), self._upkeep.stragglers
        self._gallery.attach(journal)
        journal.audience.redactor = self._redactor
        manifest = partial(self._manifests.of, layers, frozenset(lent))
        if lent[PAYMENTS] is not NO_PAYMENTS:
            lent[PAYMENTS] = Till(ref(journal), lent[PAYMENTS], manifest)
        drift = self._standards.drift(journal, on_drift)
        runner = Runner(
            journal, self._upkeep.spawn, manifest, drives=drive, listen=self._upkeep.listen, drift=drift
        )
        if drive:
            self._runners[journal.state.session_id] = runner
        return runner
