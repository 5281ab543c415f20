"""The same thing for blocking code: a runtime on an event loop in its own thread.

    with sync.Runtime("calc.db") as runtime:
        session = runtime.session(agent)
        print(session.run("What is 2 + 2?").text)

Every call is handed to the asynchronous one and waited for; there is no second implementation.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Self, TypeVar

from holdfast import handle, runtime, session
from holdfast.events import Event, Signal
from holdfast.handle import TurnResult
from holdfast.messages import Message

T = TypeVar("T")


class Runtime:
    """A blocking `holdfast.Runtime`; it takes the same arguments."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="holdfast", daemon=True)
        self._runtime = runtime.Runtime(*args, **options)

    def _wait(self, job: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result()

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self._runtime.__aenter__())
        return self

    def __exit__(self, *failure: Any) -> None:
        try:
            self._wait(self._runtime.__aexit__(*failure))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def session(self, *args: Any, **options: Any) -> Session:
        """See `holdfast.Runtime.session`."""
        return Session(self, self._wait(self._runtime.session(*args, **options)))

    def open(self, *args: Any, **options: Any) -> Session:
        """See `holdfast.Runtime.open`."""
        return Session(self, self._wait(self._runtime.open(*args, **options)))


class Session:
    """A blocking `holdfast.Session`."""

    def __init__(self, owner: Runtime, inner: session.Session) -> None:
        self._wait = owner._wait
        self._owner = owner
        self.inner = inner
        self.id = inner.id

    def send(self, content: str, *, key: str = "") -> Turn:
        """See `holdfast.Session.send`."""
        return Turn(self._owner, self._wait(self.inner.send(content, key=key)))

    def run(self, content: str, *, key: str = "") -> TurnResult:
        """See `holdfast.Session.run`."""
        return self._wait(self.inner.run(content, key=key))

    def messages(self) -> list[Message]:
        """See `holdfast.Session.messages`."""
        return self._wait(self.inner.messages())

    def events(self, after: int = 0, *, limit: int = 1_000) -> list[Event]:
        """See `holdfast.Session.events`."""
        return self._wait(self.inner.events(after, limit=limit))


class Turn:
    """A blocking `holdfast.Turn`: `result()` waits, iterating streams."""

    def __init__(self, owner: Runtime, inner: handle.Turn) -> None:
        self._wait = owner._wait
        self.inner = inner
        self.id = inner.id

    def result(self) -> TurnResult:
        """Wait for the turn to come to rest."""

        async def rest() -> TurnResult:
            return await self.inner

        return self._wait(rest())

    def __iter__(self) -> Iterator[Event | Signal]:
        items = aiter(self.inner)

        async def following() -> Event | Signal | None:
            return await anext(items, None)

        while (item := self._wait(following())) is not None:
            yield item
        self._wait(items.aclose())  # type: ignore[attr-defined]

    def cancel(self, reason: str = "") -> TurnResult:
        """See `holdfast.Turn.cancel`."""
        return self._wait(self.inner.cancel(reason))
