"""Sinks: where the output of turns that end is delivered, once.

    runtime.sink("tickets", WebhookSink("https://example.com/tickets"))

That a delivery is owed is recorded with the end of its turn, that it begins before it is sent, and what became of it
after. One whose outcome was cut off is sent again only with proof that it did not arrive: the sink's own `look_up`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import msgspec
from msgspec import Struct

from holdfast.errors import UsageError
from holdfast.events import TurnStop
from holdfast.facts.deliveries import SinkOwed
from holdfast.services import Key

T = TypeVar("T")

Ends = Collection[str]
"""Ways for a turn to end: `completed`, `failed`, `cancelled`."""


class Delivery(Struct, frozen=True, kw_only=True):
    """What a sink is handed."""

    key: str
    """The same for every attempt, for ever: what the receiver knows a repetition by."""
    sink: str
    session_id: str
    turn_id: str
    agent: str
    status: str
    """How the turn ended: `completed`, `failed` or `cancelled`."""
    stop: TurnStop
    text: str
    """The model's last words."""
    attempt: int


class NotDelivered(Exception):
    """Raise this in a sink when nothing has arrived for certain. It is tried again, unless `final`."""

    def __init__(self, message: str = "", *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class Sink(Protocol):
    """Takes finished output."""

    async def deliver(self, delivery: Delivery) -> str:
        """Hand it over; what is returned is kept as the receipt. Raises `NotDelivered` when it certainly did not
        arrive. After any other error, and when it is cut off, nobody knows: then `look_up` is asked, if there is one.
        """
        ...


@runtime_checkable
class Findable(Protocol):
    """A sink that knows what has arrived."""

    async def look_up(self, key: str) -> str | None:
        """The receipt of what arrived under this key; None when certainly nothing did."""
        ...


class Registered(Struct, frozen=True, kw_only=True):
    """A sink, and whose output goes there."""

    sink: Sink
    agents: frozenset[str] | None
    ends: frozenset[str]
    timeout: float


class Sinks:
    """The sinks of a runtime, by name."""

    def __init__(self) -> None:
        self.known: dict[str, Registered] = {}

    def add(
        self, name: str, sink: Sink, *, agents: Collection[str] | None, ends: Ends, timeout: float
    ) -> None:
        """Register a sink. Raises `UsageError` for a name that is taken, and what can never be delivered to."""
        if not name or name in self.known:
            raise UsageError(f"a sink needs a name of its own, and {name!r} is {'taken' if name else 'none'}")
        if not callable(getattr(sink, "deliver", None)):
            raise UsageError(f"{sink!r} is no sink: it has no async deliver(delivery)")
        if isinstance(agents, str) or isinstance(ends, str):
            raise UsageError(
                f"agents and ends of sink {name!r} are collections of words, as in ('completed',)"
            )
        if strange := set(ends) - {"completed", "failed", "cancelled"}:
            raise UsageError(
                f"no turn ends as {', '.join(sorted(strange))}; one is completed, failed or cancelled"
            )
        chosen = frozenset(agents) if agents is not None else None
        if not ends or not timeout > 0 or (chosen is not None and not chosen):
            raise UsageError(
                f"sink {name!r} would never be delivered to: give ends, a timeout above 0, and names of agents or None"
            )
        self.known[name] = Registered(sink=sink, agents=chosen, ends=frozenset(ends), timeout=timeout)

    def owed(self, agent: str, turn_id: str, status: str) -> list[SinkOwed]:
        """What is owed when a turn of this agent ends so."""
        if not self.known:
            return []
        return [
            SinkOwed(key=f"{name}:{turn_id}", sink=name)
            for name, it in self.known.items()
            if status in it.ends and (it.agents is None or agent in it.agents)
        ]


SINKS: Key[Sinks] = Key("sinks")


class CallbackSink:
    """Hands output to an async function, which returns a receipt; `look_up` finds receipts by key."""

    def __init__(
        self,
        deliver: Callable[[Delivery], Awaitable[str]],
        look_up: Callable[[str], Awaitable[str | None]] | None = None,
    ) -> None:
        self._deliver = deliver
        if look_up is not None:
            self.look_up = look_up

    async def deliver(self, delivery: Delivery) -> str:
        """See `Sink.deliver`."""
        return await self._deliver(delivery)


class FileSink:
    """Appends each delivery to a file as a line of JSON, on the disk before it counts. The receipt is the line's place.

    The file is looked through to find out whether a delivery that was cut off had arrived.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._lock = asyncio.Lock()

    async def deliver(self, delivery: Delivery) -> str:
        """See `Sink.deliver`."""
        return await self._apart(partial(self._append, msgspec.json.encode(delivery)))

    async def look_up(self, key: str) -> str | None:
        """See `Findable.look_up`."""
        return await self._apart(partial(self._find, key))

    async def _apart(self, work: Callable[[], T]) -> T:
        """Do it in a thread, alone: a thread goes on when whoever waits for it is cut off, and the next one waits."""
        await self._lock.acquire()
        job = asyncio.ensure_future(asyncio.to_thread(work))
        job.add_done_callback(lambda _: self._lock.release())
        return await asyncio.shield(job)

    def _append(self, line: bytes) -> str:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            end = os.lseek(file, 0, os.SEEK_END)
            torn = end > 0 and os.pread(file, 1, end - 1) != b"\n"  # the line of a process that died
            whole = (b"\n" if torn else b"") + line + b"\n"
            if os.write(file, whole) < len(whole):
                raise OSError(errno.ENOSPC, "there was no room for the whole line", self._path)
            os.fsync(file)
        finally:
            os.close(file)
        return f"byte {end + torn}"

    def _find(self, key: str) -> str | None:
        place = 0
        with suppress(FileNotFoundError, NotADirectoryError), open(self._path, "rb") as file:
            for line in file:
                if line.endswith(b"\n") and _key_of(line) == key:
                    return f"byte {place}"
                place += len(line)
        return None


def _key_of(line: bytes) -> object:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said.get("key") if isinstance(said, dict) else None
