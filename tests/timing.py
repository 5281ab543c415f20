"""What tests of time share, so that they hold on a machine that is busy with others: virtual time, and a stopwatch."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Self

import pytest

from holdfast.testing import VirtualLoop

UNHURRIED = ("asyncio", {"loop_factory": partial(VirtualLoop, patience=30.0)})
"""A loop whose clock stands still while anything runs, and while nothing runs because the machine has no time for it.

It waits for threads and sockets as long as a real one: only what is ready comes before every timer.
"""

VIRTUAL = pytest.mark.parametrize("anyio_backend", [UNHURRIED], ids=["virtual time"])
"""A test on such a loop: which of two timers comes first does not depend on the machine."""

TICK = 0.005
LATE = 0.02
"""Seconds a tick may be late because of what runs in this process; beyond that nobody in it was run."""


class Stopwatch:
    """Seconds between entering and leaving, without those in which the machine did not run this process at all.

    A thread that only ticks tells the difference: it is late when everything is stopped, and not when the event loop
    of this process is blocked or slow.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lost = 0.0
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._begun = self._ticked = time.monotonic()
        threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._count()
        self.seconds = time.monotonic() - self._begun - self._lost

    def _tick(self) -> None:
        while not self._over.wait(TICK):
            self._count()

    def _count(self) -> None:
        with self._lock:
            now = time.monotonic()
            late = now - self._ticked - TICK
            self._lost += late if late > LATE else 0.0
            self._ticked = now
