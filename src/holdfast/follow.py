"""Followers: live readers of a journal, bounded, told when they are too slow.

They see events, and *signals*, which are live only: never stored, never numbered, dropped for a reader too slow to keep
up, who is told so with `Lagged` and can repair from the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

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
    """This reader was too slow: `missed` items were dropped for it. Events after `after` can be read from the log."""

    missed: int
    after: int


Signal = TextDelta | ThinkingDelta | ArgumentsDelta | ToolProgress | ToolOutput | Lagged


class Follower:
    """An async iterator over what a journal publishes.

    It holds at most `size` items. When it is full further items are dropped and counted, and the reader gets one
    `Lagged(missed, after)` in their place: every event after sequence `after` can be read from the log. Close it
    when done (or use it as a context manager); iteration ends then.
    """

    __slots__ = (
        "_closed",
        "_error",
        "_items",
        "_last",
        "_missed",
        "_siblings",
        "_size",
        "_turn_id",
        "_wake",
        "after",
    )

    def __init__(self, siblings: list[Follower], *, after: int, size: int, turn_id: str = "") -> None:
        self.after = after
        """The last event published before this follower came; earlier ones are in the log."""
        self._items: deque[Event | Signal] = deque()
        self._size = size
        self._turn_id = turn_id
        self._siblings = siblings
        self._last = after
        self._missed = 0
        self._wake: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._closed = False

    def offer(self, item: Event | Signal) -> None:
        """Take an item, or count it as missed."""
        if self._missed or len(self._items) >= self._size:
            self._missed += 1
        else:
            self._items.append(item)
        self._notify()

    def offer_signal(self, signal: Signal) -> None:
        """Take a signal, unless it belongs to a turn that is not followed."""
        if not self._turn_id or isinstance(signal, Lagged) or signal.turn_id == self._turn_id:
            self.offer(signal)

    def offer_all(self, events: Sequence[Event]) -> None:
        """Take events in order. A follower of one turn takes its events only, and closes after the last."""
        for event in events:
            if not self._turn_id or event.context.turn_id == self._turn_id:
                self.offer(event)
                if self._turn_id and event.type in TURN_ENDS:
                    self.close()

    def fail(self, error: BaseException) -> None:
        """Let the reader know that the journal broke, after what it already has."""
        self._error = error
        self._notify()

    def close(self) -> None:
        """Stop following. What was taken in can still be read."""
        self._closed = True
        if self in self._siblings:
            self._siblings.remove(self)
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Follower:
        return self

    async def first(self, seconds: float) -> None:
        """Wait for one item, and drop it, for so many seconds at most."""
        try:
            async with asyncio.timeout(seconds):
                await anext(self, None)
        except TimeoutError:
            return

    async def __anext__(self) -> Event | Signal:
        while not self._items:
            if self._missed:
                missed, self._missed = self._missed, 0
                return Lagged(missed=missed, after=self._last)
            if self._error is not None:
                raise self._error
            if self._closed:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        item = self._items.popleft()
        if type(item) is Event:
            self._last = item.sequence
        return item
