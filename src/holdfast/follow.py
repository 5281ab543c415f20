"""Followers: readers of one session's log, live, who are told when they are too slow.

They see events, and *signals*, which are live only: never stored, never numbered. All readers of a journal share one
`Feed`, which keeps the newest events and signals; a reader is a place in it, so one that stands still costs nobody
anything. Events that are no longer in the feed are read from the log: none is ever missed. Signals that are no longer
there are gone, and the reader is told so with `Lagged`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from holdfast.errors import StoreCorrupt
from holdfast.events import TURN_ENDS, Event


class TextDelta(Struct, frozen=True, kw_only=True, tag="output.message.delta", gc=False):
    """More words of the message being written."""

    turn_id: str
    message_id: str
    text: str


class ThinkingDelta(Struct, frozen=True, kw_only=True, tag="reason.thinking.delta", gc=False):
    """More of the model's reasoning."""

    turn_id: str
    message_id: str
    text: str


class ArgumentsDelta(Struct, frozen=True, kw_only=True, tag="tool.arguments.delta", gc=False):
    """More of a call's arguments; `index` is the call's place in the message."""

    turn_id: str
    message_id: str
    text: str
    index: int


class ToolProgress(Struct, frozen=True, kw_only=True, tag="tool.progress", gc=False):
    """A running tool says how far it is."""

    turn_id: str
    call_id: str
    name: str
    message: str


class ToolOutput(Struct, frozen=True, kw_only=True, tag="tool.output.delta", gc=False):
    """More of a running tool's output."""

    turn_id: str
    call_id: str
    name: str
    text: str
    stream: Literal["stdout", "stderr"] = "stdout"


class Lagged(Struct, frozen=True, kw_only=True, tag="lagged", gc=False):
    """This reader was too slow: `missed` signals were dropped for it. No event was: what the signals told is in those
    before this and in those after sequence `after`, all of which the reader is given."""

    missed: int
    after: int


Signal = TextDelta | ThinkingDelta | ArgumentsDelta | ToolProgress | ToolOutput | Lagged

EVENTS = 256
"""The newest events that a feed keeps at hand."""
SIGNALS = 1_024
"""The newest signals that a feed keeps: a reader this far behind loses some."""
PAGE = 32
"""Events that a follower reads from the log at once. A reader that stands still holds no more than that."""

Read = Callable[[int, int], Awaitable[list[Event]]]
"""Reads events of one log: those after this sequence, at most so many."""


class Feed:
    """What the readers of one log, or of many, share. `count` is the number of the newest event put in; `session_id`
    goes with a signal, for those who read many."""

    __slots__ = ("_events", "_signals", "_waiting", "count", "error", "failures", "readers", "signalled")

    def __init__(self, count: int = 0) -> None:
        self.count = count
        self.signalled = 0
        """Signals that were ever put in."""
        self.readers = 0
        self.failures = 0
        """How often those who read were told that nothing more comes."""
        self.error: BaseException | None = None
        """Why, the last time."""
        self._events: deque[Event] = deque(maxlen=EVENTS)
        self._signals: deque[tuple[int, str, Signal]] = deque(maxlen=SIGNALS)
        self._waiting: set[asyncio.Future[None]] = set()

    def enter(self, count: int) -> None:
        """One more reader, where the log is at `count`. Nothing was put in while there was none."""
        self.readers += 1
        self.reach(count)

    def reach(self, count: int) -> None:
        """The log is at `count` at least: what of it was not put in is to be read there."""
        if count > self.count:
            self.count = count
            self._events.clear()
            self.ring()

    def leave(self) -> None:
        """One reader less; after the last nothing is kept."""
        self.readers -= 1
        if not self.readers:
            self._events.clear()
            self._signals.clear()

    def put(self, events: Sequence[Event]) -> None:
        """Take in what was written to the one log that this is of. What is known already is passed over."""
        for event in events:
            if event.sequence > self.count:
                if event.sequence > self.count + 1:  # others wrote what lies between
                    self._events.clear()
                self.count = event.sequence
                self._events.append(event)
        self.ring()

    def keep(self, events: Sequence[Event]) -> None:
        """Take in events, numbered as they come."""
        self._events.extend(events)
        self.count += len(events)
        self.ring()

    def signal(self, signal: Signal, session_id: str) -> None:
        """Take in a signal that comes after all events so far."""
        self._signals.append((self.count, session_id, signal))
        self.signalled += 1
        self.ring()

    def fail(self, error: BaseException) -> None:
        """Nothing more comes to those who read now, and why."""
        self.error = error
        self.failures += 1
        self.ring()

    def event(self, number: int) -> Event | None:
        """The event with this number, while it is kept."""
        place = number - (self.count - len(self._events)) - 1
        return self._events[place] if 0 <= place < len(self._events) else None

    def oldest_signal(self) -> int:
        """The number, from 0, of the oldest signal that is kept."""
        return self.signalled - len(self._signals)

    def signal_at(self, number: int) -> tuple[int, str, Signal]:
        """After which event this signal came, its session, and itself."""
        return self._signals[number - self.oldest_signal()]

    def ring(self) -> None:
        """Wake those who wait. Who does not wait costs nothing."""
        while self._waiting:
            waiting = self._waiting.pop()
            if not waiting.done():
                waiting.set_result(None)

    async def heard(self) -> None:
        """Return when something was put in."""
        ringing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(ringing)
        try:
            await ringing
        finally:
            self._waiting.discard(ringing)


class Wants(Protocol):
    """Which items a reader is given."""

    def event(self, event: Event) -> bool: ...

    def signal(self, signal: Signal) -> bool: ...


class OfTurn(Struct, frozen=True):
    """Items of one turn; with an empty id, all."""

    turn_id: str

    def event(self, event: Event) -> bool:
        """Whether it belongs to the turn."""
        return not self.turn_id or event.context.turn_id == self.turn_id

    def signal(self, signal: Signal) -> bool:
        """Whether it belongs to the turn."""
        return not self.turn_id or isinstance(signal, Lagged) or signal.turn_id == self.turn_id


class Follower:
    """An async iterator over one session's events after `sequence`, in order and without a gap, and over signals.

    `last_of` is the turn with whose end it ends. Unless it `heeds` the journal it goes on when that breaks. Close it
    when done (or use it as a context manager); iteration ends then.
    """

    __slots__ = (
        "_closed",
        "_error",
        "_failures",
        "_feed",
        "_heeds",
        "_last_of",
        "_page",
        "_read",
        "_signal",
        "_wants",
        "event_id",
        "sequence",
    )

    def __init__(
        self, feed: Feed, read: Read, wants: Wants, *, after: int, last_of: str = "", heeds: bool = True
    ) -> None:
        self.sequence = after
        """Of the last event that it came past."""
        self.event_id = ""
        """Of the same, once it came past any."""
        self._heeds = heeds
        self._feed = feed
        self._read = read
        self._wants = wants
        self._last_of = last_of
        self._signal = feed.signalled
        self._failures = feed.failures
        self._page: deque[Event] = deque()
        self._error: BaseException | None = None
        self._closed = False

    def fail(self, error: BaseException) -> None:
        """Let the reader know that nothing more comes, after what it already has."""
        self._error = error
        self._feed.ring()

    @property
    def closed(self) -> bool:
        """Whether it was closed, or its turn ended."""
        return self._closed

    def close(self) -> None:
        """Stop following."""
        if not self._closed:
            self._closed = True
            self._page.clear()
            self._feed.leave()
            self._feed.ring()

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> Event | Signal:
        while not self._closed:
            item = self._next()
            if item is not None:
                return item
            if self._lacks():
                await self._read_on()
                continue
            if self._error is not None:
                raise self._error
            if self._heeds and self._feed.failures != self._failures and self._feed.error is not None:
                raise self._feed.error
            await self._feed.heard()
        raise StopAsyncIteration

    async def within(self, seconds: float) -> Event | Signal | None:
        """The next item, if it comes within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await anext(self, None)
        except TimeoutError:
            return None

    async def look(self) -> None:
        """Read from the log what others wrote there and nobody said."""
        if not self._closed and not self._page:
            self._page.extend(await self._read(self.sequence, PAGE))

    def _lacks(self) -> bool:
        """Whether there are more events, and the next one must be read from the log."""
        return self.sequence < self._feed.count

    async def _read_on(self) -> None:
        page = await self._read(self.sequence, PAGE)
        if not page and self._lacks():
            raise StoreCorrupt(f"the log ends after event {self.sequence}, and had {self._feed.count} before")
        if not self._closed:
            self._page.extend(page)

    def _next(self) -> Event | Signal | None:
        """The next item that is wanted and at hand."""
        while (signal := self._next_signal()) is None:
            event = self._page.popleft() if self._page else self._feed.event(self.sequence + 1)
            if event is None:
                return None
            if event.sequence > self.sequence:
                self.sequence, self.event_id = event.sequence, event.id
                if self._last_of and event.type in TURN_ENDS and event.context.turn_id == self._last_of:
                    self.close()
                if self._wants.event(event):
                    return event
        return signal

    def _next_signal(self) -> Signal | None:
        """The next signal that is wanted and came before the next event."""
        feed = self._feed
        while self._signal < feed.signalled:
            oldest = feed.oldest_signal()
            came_after, _, signal = feed.signal_at(max(self._signal, oldest))
            if came_after > self.sequence:
                return None
            if self._signal < oldest:
                missed, self._signal = oldest - self._signal, oldest
                return Lagged(missed=missed, after=self.sequence)
            self._signal += 1
            if self._wants.signal(signal):
                return signal
        return None
