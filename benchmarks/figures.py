"""What comes of a workload: figures, with every repeat; and the numbers we mean to keep.

A figure is judged by its median. `reach` is what this stage must meet, `hold` what the design wants to keep for good.
Work that stays on the event loop is judged by processor time, which on a quiet machine is the same as elapsed time and
on a busy one does not count the neighbours; whatever waits for a disk or a process is judged by elapsed time.
"""

from __future__ import annotations

import statistics
from typing import Literal, NamedTuple

from msgspec import Struct

Clock = Literal["cpu", "wall", ""]


class Figure(Struct, frozen=True, kw_only=True):
    """One measured number."""

    workload: str
    name: str
    unit: str
    values: tuple[float, ...]
    """Every repeat, by the clock that counts."""
    clock: Clock = ""
    """Processor time, elapsed time, or neither: a count."""
    other: tuple[float, ...] = ()
    """The same repeats by the other clock."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


class Target(NamedTuple):
    """The largest values that are good enough: at this stage, and for good."""

    reach: float
    hold: float


TARGETS: dict[tuple[str, str], Target] = {
    ("w1", "one tool"): Target(150, 80),
    ("w1", "no tool"): Target(80, 40),
    ("w2", "turn 1,000 / turn 10"): Target(1.5, 1.2),
    ("w2", "storage / content"): Target(2, 2),
    ("w3", "per delta, 2,000"): Target(4, 2),
    ("w3", "per delta, 8,000"): Target(4, 2),
    ("w4", "16 calls"): Target(0.8, 0.4),
    ("w5", "one tool"): Target(1.0, 0.8),
    ("w5", "commits a turn"): Target(4, 4),
    ("w5", "commits a turn, pure tool"): Target(4, 3),
    ("w6", "1,000 sessions, memory"): Target(0.25, 0.15),
    ("w6", "1,000 sessions, file"): Target(0.5, 0.3),
    ("w7", "import"): Target(100, 80),
    ("w7", "first turn"): Target(150, 120),
    ("w7", "memory after it"): Target(35, 35),
}
"""By workload and figure, in the figure's unit. A figure that is not here is only shown."""


def target_of(figure: Figure) -> Target | None:
    """What this figure should not exceed, if anything."""
    return TARGETS.get((figure.workload, figure.name))


def verdict(figure: Figure, limit: float) -> Literal["ok", "MISS"]:
    """Whether the median is good enough."""
    return "ok" if figure.median <= limit else "MISS"


class Effort(Struct, frozen=True, kw_only=True):
    """How much is measured. The defaults are for figures that are quoted."""

    repeats: int = 5
    slice: float = 0.25
    """Seconds a repeat of short turns takes."""
    turns: int = 1_010
    """In one session, for W2: ten beyond the thousandth."""
    deltas: tuple[int, ...] = (2_000, 8_000)
    sessions: int = 1_000
    trace: bool = True
    """Whether to count syncs with strace, where there is one."""


QUICK = Effort(repeats=3, slice=0.1, trace=False)
