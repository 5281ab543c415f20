"""A world in which processes die: a disk that outlives them, a ledger of what they did to others, and an application.

    await world.kill("after tool.started", agent)      a process dies right there
    after = await world.go_on(agent)                   another one finds what it left, and sees it to its rest

A process dies by never getting another answer: from its store, from the places its tools and its model pass, or from
its timers. Nothing is tidied up on the disk. Places have names: `before` and `after` what is appended, by the kinds of
its events, or written otherwise (`before put_blob`), and those that a tool or model passes itself with `point`.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from holdfast import Agent, Event, Message, Runtime, Session, ToolResult
from holdfast.driver import Emit, Reply, Request
from holdfast.drivers.sim import Sim
from holdfast.events import ToolCompleted
from holdfast.fold import fold
from holdfast.outcome import Outcome
from holdfast.state import encode_state
from holdfast.store import Store
from holdfast.testing import WrappedStore, problems_in
from tests.failure_model.disks import Disk

T = TypeVar("T")
Work = Callable[[Runtime], Awaitable[object]]

INPUT = "Go."
PATIENCE = 60.0
"""Real seconds after which nothing is expected to happen any more: they bound a hang, and no machine is that slow."""


class Process:
    """Lives until it comes to the place where it dies: the one with this name, or the n-th."""

    def __init__(self, where: str | int = "") -> None:
        self._where = where
        self.dead = asyncio.Event()
        self.passed: list[tuple[str, ...]] = []

    def ends(self, *names: str) -> bool:
        """Whether it is dead, or dies at this place."""
        if not self.dead.is_set():
            self.passed.append(names)
            if self._where in names or self._where == len(self.passed):
                self.dead.set()
        return self.dead.is_set()

    async def cross(self, name: str) -> None:
        """Go on, unless it ends here."""
        if self.ends(name):
            await _never()


_process: ContextVar[Process | None] = ContextVar("process", default=None)


def _never() -> Future[Any]:
    return asyncio.get_running_loop().create_future()


async def point(name: str) -> None:
    """A place in a tool, a hook or a model where its process may die."""
    if process := _process.get():
        await process.cross(name)


class MortalStore(WrappedStore):
    """The store of a process: silent from the moment it is dead."""

    def __init__(self, store: Store, process: Process) -> None:
        super().__init__(store)
        self._process = process

    def hand_over(self, events: Sequence[Event], write: Callable[[], Future[None]]) -> Future[None]:
        kinds = dict.fromkeys([event.type for event in events])
        if self._process.ends(*[f"before {kind}" for kind in kinds]):
            return _never()
        written, after = write(), [f"after {kind}" for kind in kinds]
        if written.done():
            return _never() if self._process.ends(*after) else written
        answer = _never()

        def durable(_: Future[None]) -> None:
            if not self._process.ends(*after):
                _pass_on(written, answer)

        written.add_done_callback(durable)
        return answer

    async def close(self) -> None:
        if not self._process.dead.is_set():
            await super().close()

    async def carry_out(self, operation: str, work: Callable[[], Awaitable[T]]) -> T:
        if self._process.dead.is_set():
            await _never()
        if operation in WRITES:
            await self._process.cross(f"before {operation}")
        done = await work()
        if operation in WRITES:
            await self._process.cross(f"after {operation}")
        return await _never() if self._process.dead.is_set() else done


WRITES = ("claim", "put_blob", "save_snapshot", "post", "discard", "raise_account")


def _pass_on(written: Future[None], answer: Future[None]) -> None:
    if answer.done():
        return
    if error := written.exception():
        answer.set_exception(error)
    else:
        answer.set_result(None)


class Model(Sim):
    """A simulated model that passes the places `asking`, `streaming` (at every piece) and `answered`."""

    async def reply(self, request: Request, emit: Emit) -> Reply:
        await point("asking")
        process = _process.get()

        def seen(kind: Any, piece: str, index: int) -> None:
            if process is None or not process.ends("streaming", f"streaming {kind}"):
                emit(kind, piece, index)

        reply = await super().reply(request, seen)
        await point("answered")
        return reply


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """What is there when a session has come to rest."""

    outcome: Outcome | None
    events: list[Event]
    messages: list[Message]

    @property
    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def status(self) -> str:
        return self.outcome.status if self.outcome else "none"

    @property
    def text(self) -> str:
        return self.outcome.text if self.outcome else ""

    @property
    def results(self) -> list[ToolResult]:
        """In the order in which they were recorded."""
        return [event.data.result for event in self.events if isinstance(event.data, ToolCompleted)]


class LaterClock:
    """The system's clock, which somebody has set `ahead`."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class World:
    """A disk and a ledger, and the processes on them."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.ledger: list[str] = []
        """What took effect outside."""
        self._watchers: dict[object, Store] = {}

    def act(self, effect: str) -> None:
        """Take effect, unless the process that does it is dead."""
        process = _process.get()
        if process is None or not process.dead.is_set():
            self.ledger.append(effect)

    @asynccontextmanager
    async def runtime(self, *agents: Agent, **options: Any) -> AsyncIterator[Runtime]:
        """A process that lives, and ends in good order."""
        async with Runtime(self.disk.store(), agents=agents, **options) as runtime:
            yield runtime

    async def kill(
        self,
        where: str,
        agent: Agent,
        work: Work | None = None,
        *,
        held: bool = False,
        beside: bool = False,
        **options: Any,
    ) -> None:
        """A process that does its work until it dies there. It must come there.

        Its leases run out with it, unless they are to be `held` on. `beside` others, it leaves the disk to them.
        """
        process = await self._play(where, agent, work, held=held, beside=beside, options=options)
        assert process.dead.is_set(), f"nothing died: {where!r} is not among {process.passed}"

    async def kill_at(self, number: int, agent: Agent, work: Work | None = None) -> bool:
        """A process that dies at the n-th place it passes; whether it did, for there are not always as many."""
        return (await self._play(number, agent, work)).dead.is_set()

    async def places(self, agent: Agent, work: Work | None = None) -> Iterable[int]:
        """The places that a process passes which nobody kills, by number. On Postgres, where each takes a while, only
        some of them, some of each kind."""
        passed = (await self._play("", agent, work)).passed
        return range(1, len(passed) + 1, 3 if self.disk.name == "postgres" else 1)

    async def _play(
        self,
        where: str | int,
        agent: Agent,
        work: Work | None,
        *,
        held: bool = False,
        beside: bool = False,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Process:
        process, store = Process(where), self.disk.store()
        runtime = Runtime(MortalStore(store, process), agents=[agent], **options)
        context = copy_context()
        context.run(_process.set, process)
        job = asyncio.get_running_loop().create_task(
            _work(runtime, work or partial(serve, agent=agent)), context=context
        )
        death = asyncio.ensure_future(process.dead.wait())
        await asyncio.wait([job, death], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if process.dead.is_set() and not beside:
            self.disk.freeze()
        await _abandon(runtime, job, death)
        await store.close()
        if not process.dead.is_set():
            job.result()
        if process.dead.is_set() and not held:
            await self._let_go(runtime._writer.name)
        return process

    async def _let_go(self, owner: str) -> None:
        """What this owner held is free: its lease ran out, or its death was seen."""
        await (await self.watcher()).renew(owner, 0.0)

    async def watcher(self) -> Store:
        """A store that only looks at what is there, open until the end of the test."""
        place = self.disk.place
        if place not in self._watchers:
            self._watchers[place] = self.disk.store()
            await self._watchers[place].open()
        return self._watchers[place]

    async def end(self) -> None:
        """Leave nothing open."""
        for store in self._watchers.values():
            await store.close()

    async def go_on(self, agent: Agent, *inputs: str, **options: Any) -> Aftermath:
        """What another process finds, and makes of it: the application again, which sends what it always sends."""
        async with self.runtime(agent, **options) as runtime:
            session = await serve(runtime, agent, *inputs)
            return await self.look_at(session)

    async def look_at(self, session: Session) -> Aftermath:
        """What is on the disk, which must be sound and what the session says."""
        messages = await session.messages()  # and whatever is still on its way to the disk is there
        events = await self.log(session.id)
        found = problems_in(events)
        assert not found, found
        assert encode_state(session.state) == encode_state(fold(session.id, events))
        return Aftermath(outcome=session.state.outcome, events=events, messages=messages)

    async def log(self, session_id: str = "") -> list[Event]:
        """The events of a session (the one there is), read by somebody else."""
        store = await self.watcher()
        return await store.read(session_id or (await store.sessions())[0].session_id)


async def _work(runtime: Runtime, work: Work) -> None:
    async with runtime:
        await work(runtime)


async def _abandon(runtime: Runtime, *tasks: asyncio.Future[Any]) -> None:
    """Take no further step of a process. One that lives has ended by itself."""
    upkeep = runtime._upkeep
    left = {*tasks, *upkeep._tasks, *filter(None, [upkeep._heart])}
    if isinstance(upkeep._post, asyncio.Task):
        left.add(upkeep._post)
    elif upkeep._post is not None:
        upkeep._post.cancel()
    for _ in range(3_000):
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.01)  # some wait for the store once more on their way out
        if not left:
            return
    raise AssertionError(f"these do not die: {left}")


async def until(come_true: Callable[[], bool]) -> None:
    """Wait until this is so."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if come_true():
                return
            await asyncio.sleep(0.001)


async def serve(runtime: Runtime, agent: Agent, *inputs: str) -> Session:
    """What an application does after every start: find its session, send everything under its key, see it to rest."""
    heads = await runtime.sessions()
    session = await runtime.open(heads[0].session_id, agent) if heads else await runtime.session(agent)
    for text in inputs or (INPUT,):
        await session.send(text, key=text)
    await rest(session)
    return session


async def rest(session: Session) -> None:
    """See the session to its end, or to a wait for somebody."""
    async with asyncio.timeout(PATIENCE):
        while session.state.turn is not None or session.state.queue:
            turn = session.turn
            if turn is None:
                await asyncio.sleep(0.002)
            elif (await turn).status == "waiting":
                return
        await session.messages()  # as long as the end of the turn is on its way to the disk
