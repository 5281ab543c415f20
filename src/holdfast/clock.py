"""Time is an input. Everything that asks for the time asks a `Clock`, which tests own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time, for display, deadlines that survive a restart, and schedules.

    Durations are measured with the event loop's monotonic `time()`; a virtual loop makes both virtual.
    """

    def now(self) -> datetime:
        """The current time, always in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The current time in UTC."""
        return datetime.now(UTC)
