"""The world outside, for tests: what took effect there, and which call did it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from msgspec import Struct


class Doer(Struct, frozen=True, kw_only=True):
    """A run of a call: its `attempt`-th, in a process that has this number."""

    call_id: str
    tool: str
    attempt: int
    process: int


class Entry(Struct, frozen=True, kw_only=True):
    """Something took effect; `doer` is None when it was not in a call that `crashtest` watches."""

    effect: str
    key: str
    doer: Doer | None


_doing: ContextVar[Doer | None] = ContextVar("doing", default=None)


class Ledger:
    """Stands for a system outside that keeps what your tools do to it. Give it to `crashtest`.

    `ledger.add("paid 5")` has its effect every time. `ledger.add("paid 5", key=ctx.call.key)` has it once for each
    key, as a service does that knows idempotency keys.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        """What took effect, in order."""
        self._process: int | None = None

    def add(self, effect: str, *, key: str = "") -> bool:
        """Take effect; False when it had taken effect under this key already."""
        doer = _doing.get()
        if self._process is not None and (doer or _NOBODY).process != self._process:
            return False  # of a process that is dead: its last words, or a thread that outlived it
        if key and self.has(key):
            return False
        self.entries.append(Entry(effect=effect, key=key, doer=doer))
        return True

    def has(self, key: str) -> bool:
        """Whether something took effect under this key: what a `reconcile` function asks."""
        return any(entry.key == key for entry in self.entries)

    def clear(self) -> None:
        """Forget everything: another world."""
        self.entries.clear()

    def admit(self, process: int | None) -> None:
        """From here on only what runs of this process do has an effect; None lets everybody have one."""
        self._process = process


_NOBODY = Doer(call_id="", tool="", attempt=0, process=0)


@contextmanager
def doing(doer: Doer) -> Iterator[None]:
    """What is added to a ledger inside was done by this run."""
    token = _doing.set(doer)
    try:
        yield
    finally:
        with suppress(ValueError):  # a dead process is let go in another context
            _doing.reset(token)
