"""The same thing for blocking code: a runtime on an event loop in its own thread.

    with sync.Runtime("calc.db") as runtime:
        session = runtime.session(agent)
        print(session.run("What is 2 + 2?").text)

Every call is handed to the asynchronous one and waited for; there is no second implementation. What has no blocking
twin is a `runtime.wait(...)` away: `runtime.wait(session.inner.files.read("/notes.md"))`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from decimal import Decimal
from typing import Any, Self, TypeVar, overload

from holdfast import handle, runtime, session
from holdfast.accounts import Accounts
from holdfast.agent import Agent, Harness
from holdfast.control import TurnSnapshot
from holdfast.drift import OnDrift
from holdfast.errors import RuntimeClosed, StoreClosed, UsageError
from holdfast.events import AskOpened, Event
from holdfast.facts.asks import Grant
from holdfast.facts.deliveries import Owed
from holdfast.handle import Item, TurnResult
from holdfast.messages import Content, Document, Image, Message, ToolResult
from holdfast.outcome import TurnStatus
from holdfast.sink import Sink
from holdfast.standing import BudgetStanding
from holdfast.state import State
from holdfast.store import Head, Listing
from holdfast.turn.prompt import Inspection
from holdfast.watching.filters import Filter
from holdfast.watching.subscription import Subscription as Watching

T = TypeVar("T")


class Runtime:
    """A blocking `holdfast.Runtime`; it takes the same arguments."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._runtime = runtime.Runtime(*args, **options)
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(self, job: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the runtime's loop and return its result.

        Raises `RuntimeClosed` outside the `with` block, `StoreClosed` in a fork of the process that entered it, where
        that loop does not run, `UsageError` when called on that loop, which would wait for itself: write an `async def`
        tool with the asynchronous session instead.
        """
        if self._loop is None or self._process != os.getpid() or threading.current_thread() is self._thread:
            job.close()
            if self._loop is None:
                raise RuntimeClosed("the runtime is closed; open it with `with sync.Runtime(...)`")
            if self._process != os.getpid():
                raise StoreClosed(
                    f"the runtime was opened by process {self._process} and this is its fork {os.getpid()}; a runtime "
                    "does not survive fork(): open one here"
                )
            raise UsageError("a blocking call on the runtime's own loop would wait for itself; await instead")
        return asyncio.run_coroutine_threadsafe(job, self._loop).result()

    def __enter__(self) -> Self:
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(started),), name="holdfast", daemon=True
        )
        self._process = os.getpid()
        self._thread.start()
        self._loop = started.result()
        try:
            self.wait(self._runtime.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *failure: Any) -> None:
        try:
            self.wait(self._runtime.__aexit__(*failure))
        finally:
            self._end()

    async def _serve(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        self._stop = asyncio.Event()
        started.set_result(asyncio.get_running_loop())
        await self._stop.wait()

    def _end(self) -> None:
        if self._loop is not None and self._process == os.getpid():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._loop = None
            self._thread.join()

    def session(self, *args: Any, **options: Any) -> Session:
        """See `holdfast.Runtime.session`."""
        return Session(self, self.wait(self._runtime.session(*args, **options)))

    def open(self, *args: Any, **options: Any) -> Session:
        """See `holdfast.Runtime.open`."""
        return Session(self, self.wait(self._runtime.open(*args, **options)))

    def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """See `holdfast.Runtime.sessions`."""
        return self.wait(self._runtime.sessions(limit=limit, offset=offset))

    def subscribe(self, to: Any = None, **options: Any) -> Subscription:
        """See `holdfast.Runtime.subscribe`. Sessions and turns of this module can be given, too."""
        return Subscription(self, self._runtime.subscribe(getattr(to, "inner", to), **options))

    def sink(self, name: str, sink: Sink, **options: Any) -> None:
        """See `holdfast.Runtime.sink`."""
        self._runtime.sink(name, sink, **options)

    def protect(self, *secrets: str) -> None:
        """See `holdfast.Runtime.protect`."""
        self._runtime.protect(*secrets)

    def recover(self) -> list[Session]:
        """See `holdfast.Runtime.recover`."""
        return [Session(self, inner) for inner in self.wait(self._runtime.recover())]

    @property
    def accounts(self) -> Accounts:
        """See `holdfast.Runtime.accounts`: what its methods give can be waited for with `wait`."""
        return self._runtime.accounts

    def archive(self, it: Agent | Harness, *, by: str = "", reason: str = "", deleted: bool = False) -> None:
        """See `holdfast.Runtime.archive`."""
        self.wait(self._runtime.archive(it, by=by, reason=reason, deleted=deleted))

    def restore(self, it: Agent | Harness, *, by: str = "", reason: str = "") -> None:
        """See `holdfast.Runtime.restore`."""
        self.wait(self._runtime.restore(it, by=by, reason=reason))

    def roster(self) -> list[Listing]:
        """See `holdfast.Runtime.roster`."""
        return self.wait(self._runtime.roster())


class Session:
    """A blocking `holdfast.Session`; `inner` is the asynchronous one."""

    def __init__(self, owner: Runtime, inner: session.Session) -> None:
        self._owner = owner
        self._wait = owner.wait
        self.inner = inner
        self.id = inner.id

    def __repr__(self) -> str:
        return repr(self.inner)

    @property
    def turn(self) -> Turn | None:
        """See `holdfast.Session.turn`."""
        return self._handle(self._look(lambda: self.inner.turn))

    def refresh(self) -> State:
        """See `holdfast.Session.refresh`."""
        return self._wait(self.inner.refresh())

    @property
    def deliveries(self) -> tuple[Owed, ...]:
        """See `holdfast.Session.deliveries`."""
        return self._look(lambda: self.inner.deliveries)

    def as_filter(self) -> Filter:
        """See `holdfast.Session.as_filter`."""
        return self.inner.as_filter()

    @property
    def in_doubt(self) -> tuple[ToolResult, ...]:
        """See `holdfast.Session.in_doubt`."""
        return self._look(lambda: self.inner.in_doubt)

    def _handle(self, inner: handle.Turn | None) -> Turn | None:
        return Turn(self._owner, inner) if inner is not None else None

    def _look(self, read: Callable[[], T]) -> T:
        """Read on the loop, where nothing changes meanwhile."""

        async def reading() -> T:
            return read()

        return self._wait(reading())

    def handle(self, turn_id: str) -> Turn:
        """See `holdfast.Session.handle`."""
        return Turn(self._owner, self.inner.handle(turn_id))

    def send(self, content: Content, *, key: str = "", output: Any = None, repairs: int = 3) -> Turn:
        """See `holdfast.Session.send`."""
        sending = self.inner.send(content, key=key, output=output, repairs=repairs)
        return Turn(self._owner, self._wait(sending))

    def steer(self, content: Content, *, key: str = "") -> Turn:
        """See `holdfast.Session.steer`."""
        return Turn(self._owner, self._wait(self.inner.steer(content, key=key)))

    def attach(self, data: bytes, *, name: str = "", media_type: str = "") -> Image | Document:
        """See `holdfast.Session.attach`."""
        return self._wait(self.inner.attach(data, name=name, media_type=media_type))

    @overload
    def run(self, content: Content, *, key: str = "") -> TurnResult: ...
    @overload
    def run(self, content: Content, *, key: str = "", output: type[T], repairs: int = 3) -> TurnResult[T]: ...
    @overload
    def run(self, content: Content, *, key: str = "", output: Any, repairs: int = 3) -> TurnResult[Any]: ...
    def run(
        self, content: Content, *, key: str = "", output: Any = None, repairs: int = 3
    ) -> TurnResult[Any]:
        """See `holdfast.Session.run`."""
        return self._wait(self.inner.run(content, key=key, output=output, repairs=repairs))

    @property
    def asks(self) -> tuple[AskOpened, ...]:
        """See `holdfast.Session.asks`."""
        return self._look(lambda: self.inner.asks)

    def approve(self, ask_id: str, *, by: str, reason: str = "", **given: Any) -> None:
        """See `holdfast.Session.approve`."""
        self._wait(self.inner.approve(ask_id, by=by, reason=reason, **given))

    def deny(self, ask_id: str, *, by: str, reason: str = "", **given: Any) -> None:
        """See `holdfast.Session.deny`."""
        self._wait(self.inner.deny(ask_id, by=by, reason=reason, **given))

    def answer(self, ask_id: str, text: str, *, by: str, key: str = "") -> None:
        """See `holdfast.Session.answer`."""
        self._wait(self.inner.answer(ask_id, text, by=by, key=key))

    def submit(self, ask_id: str, result: Any = None, *, by: str, error: str = "", key: str = "") -> None:
        """See `holdfast.Session.submit`."""
        self._wait(self.inner.submit(ask_id, result, by=by, error=error, key=key))

    @property
    def grants(self) -> tuple[Grant, ...]:
        """See `holdfast.Session.grants`."""
        return self._look(lambda: self.inner.grants)

    def revoke(self, grant_id: str, *, by: str, reason: str = "") -> None:
        """See `holdfast.Session.revoke`."""
        self._wait(self.inner.revoke(grant_id, by=by, reason=reason))

    def resolve(
        self, call_id: str, *, by: str, result: Any = None, rerun: bool = False, reason: str = ""
    ) -> Turn | None:
        """See `holdfast.Session.resolve`."""
        resolving = self.inner.resolve(call_id, by=by, result=result, rerun=rerun, reason=reason)
        return self._handle(self._wait(resolving))

    def resume(self, *, by: str = "", on_drift: OnDrift | None = None) -> Turn | None:
        """See `holdfast.Session.resume`."""
        return self._handle(self._wait(self.inner.resume(by=by, on_drift=on_drift)))

    def budgets(self) -> tuple[BudgetStanding, ...]:
        """See `holdfast.Session.budgets`."""
        return self._wait(self.inner.budgets())

    def raise_budget(self, name: str, amount: Decimal | int, *, by: str) -> None:
        """See `holdfast.Session.raise_budget`."""
        self._wait(self.inner.raise_budget(name, amount, by=by))

    def update(self, *, title: str | None = None, metadata: dict[str, str] | None = None) -> None:
        """See `holdfast.Session.update`."""
        self._wait(self.inner.update(title=title, metadata=metadata))

    def compact(self, *, by: str) -> None:
        """See `holdfast.Session.compact`."""
        self._wait(self.inner.compact(by=by))

    def messages(self, *, before: int | None = None, limit: int | None = None) -> list[Message]:
        """See `holdfast.Session.messages`."""
        return self._wait(self.inner.messages(before=before, limit=limit))

    @property
    def message_count(self) -> int:
        """See `holdfast.Session.message_count`."""
        return self.inner.message_count

    def events(self, after: int = 0, *, limit: int = 1_000) -> list[Event]:
        """See `holdfast.Session.events`."""
        return self._wait(self.inner.events(after, limit=limit))

    def follow(self, after: int = 0) -> Iterator[Event]:
        """See `holdfast.Session.follow`."""
        return _each(self._wait, self.inner.follow(after))

    def inspect(self, content: Content | None = None) -> Inspection:
        """See `holdfast.Session.inspect`."""
        return self._wait(self.inner.inspect(content))


class Turn:
    """A blocking `holdfast.Turn`: `result()` waits, iterating streams."""

    def __init__(self, owner: Runtime, inner: handle.Turn) -> None:
        self._wait = owner.wait
        self.inner = inner
        self.id = inner.id

    def __repr__(self) -> str:
        return repr(self.inner)

    def result(self) -> TurnResult:
        """Wait for the turn to come to rest."""

        async def rest() -> TurnResult:
            return await self.inner

        return self._wait(rest())

    def __iter__(self) -> Iterator[Item]:
        return _each(self._wait, aiter(self.inner))

    @property
    def asks(self) -> tuple[AskOpened, ...]:
        """See `holdfast.Turn.asks`."""
        return self.inner.asks

    @property
    def status(self) -> TurnStatus:
        """See `holdfast.Turn.status`."""
        return self.inner.status

    def partials(self) -> Iterator[Any]:
        """See `holdfast.Turn.partials`."""
        return _each(self._wait, self.inner.partials())

    @property
    def session_id(self) -> str:
        """See `holdfast.Turn.session_id`."""
        return self.inner.session_id

    def as_filter(self) -> Filter:
        """See `holdfast.Turn.as_filter`."""
        return self.inner.as_filter()

    def snapshot(self) -> TurnSnapshot:
        """See `holdfast.Turn.snapshot`."""
        return self._wait(self.inner.snapshot())

    def terminal(self) -> Event | None:
        """See `holdfast.Turn.terminal`."""
        return self._wait(self.inner.terminal())

    def cancel(self, reason: str = "") -> TurnResult:
        """See `holdfast.Turn.cancel`."""
        return self._wait(self.inner.cancel(reason))


class Subscription:
    """A blocking `holdfast.Subscription`: iterate it, once."""

    def __init__(self, owner: Runtime, inner: Watching) -> None:
        self._wait = owner.wait
        self.inner = inner

    def __iter__(self) -> Iterator[Item]:
        return _each(self._wait, self.inner)

    @property
    def cursor(self) -> str:
        """See `holdfast.Subscription.cursor`."""
        return self.inner.cursor

    def close(self) -> None:
        """See `holdfast.Subscription.close`."""
        self._wait(self.inner.aclose())


def _each(wait: Callable[[Coroutine[Any, Any, Any]], Any], items: AsyncIterator[T]) -> Iterator[T]:
    """What the loop gives, one after another."""

    async def following() -> T | None:
        return await anext(items, None)

    try:
        while (item := wait(following())) is not None:
            yield item
    finally:
        with suppress(RuntimeClosed, StoreClosed):
            wait(items.aclose())  # type: ignore[attr-defined]
