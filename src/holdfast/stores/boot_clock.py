"""The clock that leases in a file run on: the same for every process of the machine, and set by nobody.

It counts from the start of the machine, also while the machine sleeps. Setting the wall clock does not move it. What
was written under an earlier start is on another count, which is why each start has a name.
"""

from __future__ import annotations

import subprocess
import time
from functools import cache
from pathlib import Path

NANOSECONDS = 1_000_000_000
LONGEST = 3e9
"""Seconds (a century) that a longer lease is cut to, so that its end fits into 64 bits."""

_COUNT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_NAME = Path("/proc/sys/kernel/random/boot_id")


class BootClock:
    """Nanoseconds since the machine started, and the name of that start."""

    def __init__(self) -> None:
        self.boot = _boot()

    def now(self) -> int:
        """Nanoseconds since the machine started."""
        return time.clock_gettime_ns(_COUNT)

    def after(self, seconds: float) -> int:
        """What `now` will be so many seconds from now."""
        return self.now() + int(min(seconds, LONGEST) * NANOSECONDS)

    def lease(self, owner: str, hold: float) -> tuple[str | None, int | None, str | None]:
        """What a row says of a lease of so many seconds that begins now: by whom, until when, since which start."""
        return (owner, self.after(hold), self.boot) if hold else (None, None, None)


@cache
def _boot() -> str:
    """The kernel's name for this start of the machine; empty where the kernel gives none."""
    try:
        return _NAME.read_text(encoding="ascii").strip()
    except OSError:
        return _boot_elsewhere()


def _boot_elsewhere() -> str:
    """As macOS tells it."""
    try:
        asked = subprocess.run(
            ["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, encoding="ascii", check=False
        )
    except OSError:
        return ""
    return asked.stdout.strip()
