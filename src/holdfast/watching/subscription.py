"""Subscriptions: everything that happens in a session, in some, or in all, from any point on, without a gap.

    async with runtime.subscribe(Filter(kinds=("turn.*",)), after=cursor) as subscription:
        async for item in subscription:
            ...
            keep(subscription.cursor)

First what the logs hold, then what is recorded here and elsewhere as it comes. The events of a session come in their
order, each once; how those of different sessions lie between each other says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Literal, Protocol, Self

from holdfast.errors import UsageError
from holdfast.events import Event
from holdfast.follow import Signal
from holdfast.privacy.views import reviewed
from holdfast.watching.filters import NOW, Compiled, Cursor, Filter, Watched, read, written
from holdfast.watching.gallery import Gallery as Gallery
from holdfast.watching.readings import Many, One

View = Literal["canonical", "reviewed"]
"""All of it, which is private; or what is safe to log, forward and show."""


Watchable = Filter | Watched | None
"""What can be subscribed to: a filter, a session, a turn, an agent; None is everything on the store."""


def subscribe(gallery: Gallery, to: Watchable, after: str, view: View, *, signals: bool) -> Subscription:
    """See `Runtime.subscribe`."""
    if to is not None and not isinstance(to, Filter | Watched):
        raise UsageError(
            f"{to!r} cannot be subscribed to; give a session, a turn, an agent, a Filter, or nothing for everything"
        )
    given = to if isinstance(to, Filter) else to.as_filter() if to is not None else Filter()
    return Subscription(gallery, given, after, view, signals=signals)


class _Reading(Protocol):
    """One way to read on."""

    async def next(self) -> Event | Signal: ...

    def cursor(self) -> Cursor: ...

    def fail(self, error: BaseException) -> None: ...

    def close(self) -> None: ...


class Subscription:
    """An async iterator over what a filter matches. Get one from `runtime.subscribe()`.

    It holds next to nothing while nobody reads: events wait on the log. Of signals, which are live only, the newest
    1,024 wait for it; of more it is told with `Lagged`. It never slows down a turn.
    """

    def __init__(self, gallery: Gallery, given: Filter, after: str, view: View, *, signals: bool) -> None:
        if view not in ("canonical", "reviewed"):
            raise UsageError(f"a view is 'canonical' or 'reviewed', not {view!r}")
        self._gallery = gallery
        self._scope = Compiled(given)
        self._now = after == NOW
        begins = read(after, self._scope) if after and not self._now else None
        self._from = begins or Cursor(digest=self._scope.digest)
        self._show = _SHOW[view]
        self._signals = signals
        self._reading: _Reading | None = None
        self._closed = False

    @property
    def cursor(self) -> str:
        """Where it is: everything up to the last item that it gave is before it. Give it to `runtime.subscribe(after=)`
        with the same filter to go on from there, in any process, at any time.

        It names each session that it came past, some 20 characters each, and is made when it is asked for.
        """
        return written(self._reading.cursor() if self._reading else self._from)

    async def open(self) -> None:
        """Begin, which the first item does too: the cursor is checked against the logs here.

        Raises `CursorRefused`, `UnknownSession`, `StoreError`.
        """
        if self._reading is None and not self._closed:
            one = self._scope.sessions if self._scope.sessions and len(self._scope.sessions) == 1 else None
            if one and not self._scope.asks_origin:
                self._reading = await One.begin(
                    self._gallery, self._scope, self._from, next(iter(one)), self._now
                )
            else:
                self._reading = await Many.begin(self._gallery, self._scope, self._from, self._now)
            self._gallery.seat(self)

    def fail(self, error: BaseException) -> None:
        """Nothing more comes, and why."""
        if self._reading is not None:
            self._reading.fail(error)

    def close(self) -> None:
        """Stop. Iteration ends; the cursor stays."""
        if not self._closed:
            self._closed = True
            if self._reading is not None:
                self._from = self._reading.cursor()
                self._reading.close()
                self._reading = None

    async def aclose(self) -> None:
        """As `close`, for those who close iterators."""
        self.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Signal:
        if self._closed or self._from.over:
            raise StopAsyncIteration
        await self.open()
        while self._reading is not None:
            item = await self._reading.next()
            if isinstance(item, Event):
                return self._show(item)
            if self._signals:
                return reviewed(item) if self._show is reviewed else item
        raise StopAsyncIteration

    def __repr__(self) -> str:
        return f"Subscription({'closed' if self._closed else 'open' if self._reading else 'new'})"


def _same(event: Event) -> Event:
    return event


_SHOW: dict[View, Callable[[Event], Event]] = {"canonical": _same, "reviewed": reviewed}
