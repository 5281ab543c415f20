"""The same thing for blocking code: a runtime on an event loop in its own thread.

    with sync.Runtime("calc.db") as runtime:
        session = runtime.session(agent)
        print(session.run("What is 2 + 2?").text)

Every call is handed to the asynchronous one and waited for; there is no second implementation. What has no blocking
twin is a `runtime.wait(...)` away: `runtime.wait(session.inner.files.read("/notes.md"))`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self, TypeVar

from holdfast import handle, runtime, session
from holdfast.errors import RuntimeClosed, UsageError
from holdfast.events import AskOpened, Event
from holdfast.handle import Item, TurnResult
from holdfast.messages import Content, Document, Image, Message, ToolResult
from holdfast.store import Head
from holdfast.turn.prompt import Inspection

T = TypeVar("T")


class Runtime:
    """A blocking `holdfast.Runtime`; it takes the same arguments."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._runtime = runtime.Runtime(*args, **options)
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(self, job: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the runtime's loop and return its result.

        Raises `RuntimeClosed` outside the `with` block, `UsageError` when called on that loop, which would wait for
        itself: write an `async def` tool with the asynchronous session instead.
        """
        if self._loop is None or threading.current_thread() is self._thread:
            job.close()
            if self._loop is None:
                raise RuntimeClosed
            raise UsageError("a blocking call on the runtime's own loop would wait for itself; await instead")
        return asyncio.run_coroutine_threadsafe(job, self._loop).result()

    def __enter__(self) -> Self:
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(started),), name="holdfast", daemon=True
        )
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
        if self._loop is not None:
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

    def recover(self) -> list[Session]:
        """See `holdfast.Runtime.recover`."""
        return [Session(self, inner) for inner in self.wait(self._runtime.recover())]


class Session:
    """A blocking `holdfast.Session`; `inner` is the asynchronous one."""

    def __init__(self, owner: Runtime, inner: session.Session) -> None:
        self._owner = owner
        self._wait = owner.wait
        self.inner = inner
        self.id = inner.id

    @property
    def turn(self) -> Turn | None:
        """See `holdfast.Session.turn`."""
        return self._handle(self._look(lambda: self.inner.turn))

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

    def send(self, content: Content, *, key: str = "") -> Turn:
        """See `holdfast.Session.send`."""
        return Turn(self._owner, self._wait(self.inner.send(content, key=key)))

    def steer(self, content: Content, *, key: str = "") -> Turn:
        """See `holdfast.Session.steer`."""
        return Turn(self._owner, self._wait(self.inner.steer(content, key=key)))

    def attach(self, data: bytes, *, name: str = "", media_type: str = "") -> Image | Document:
        """See `holdfast.Session.attach`."""
        return self._wait(self.inner.attach(data, name=name, media_type=media_type))

    def run(self, content: Content, *, key: str = "") -> TurnResult:
        """See `holdfast.Session.run`."""
        return self._wait(self.inner.run(content, key=key))

    def approve(self, ask_id: str, *, by: str, reason: str = "") -> None:
        """See `holdfast.Session.approve`."""
        self._wait(self.inner.approve(ask_id, by=by, reason=reason))

    def deny(self, ask_id: str, *, by: str, reason: str = "") -> None:
        """See `holdfast.Session.deny`."""
        self._wait(self.inner.deny(ask_id, by=by, reason=reason))

    def resolve(
        self, call_id: str, *, by: str, result: Any = None, rerun: bool = False, reason: str = ""
    ) -> Turn | None:
        """See `holdfast.Session.resolve`."""
        resolving = self.inner.resolve(call_id, by=by, result=result, rerun=rerun, reason=reason)
        return self._handle(self._wait(resolving))

    def resume(self, *, by: str = "") -> Turn | None:
        """See `holdfast.Session.resume`."""
        return self._handle(self._wait(self.inner.resume(by=by)))

    def update(self, *, title: str | None = None, metadata: dict[str, str] | None = None) -> None:
        """See `holdfast.Session.update`."""
        self._wait(self.inner.update(title=title, metadata=metadata))

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

    def cancel(self, reason: str = "") -> TurnResult:
        """See `holdfast.Turn.cancel`."""
        return self._wait(self.inner.cancel(reason))


def _each(wait: Callable[[Coroutine[Any, Any, Any]], Any], items: AsyncIterator[T]) -> Iterator[T]:
    """What the loop gives, one after another."""

    async def following() -> T | None:
        return await anext(items, None)

    try:
        while (item := wait(following())) is not None:
            yield item
    finally:
        with suppress(RuntimeClosed):
            wait(items.aclose())  # type: ignore[attr-defined]
