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
    skipped: str = ""
    """Why it could not be measured here; then it has no values."""

    @property
    def median(self) -> float:
        """Not a number for a figure that was skipped."""
        return statistics.median(self.values) if self.values else float("nan")


class Target(NamedTuple):
    """The values that are just good enough, at this stage and for good: the largest ones, or the `least`."""

    reach: float
    hold: float
    least: bool = False

    @property
    def sign(self) -> Literal["≤", "≥"]:
        return "≥" if self.least else "≤"

    def verdict(self, figure: Figure, limit: float) -> Literal["ok", "MISS", "skip"]:
        """Whether the median is good enough for this limit."""
        if figure.skipped:
            return "skip"
        good = figure.median >= limit if self.least else figure.median <= limit
        return "ok" if good else "MISS"


PROTOCOLS = ("anthropic", "gemini", "openai", "openai-chat")
"""The drivers of servers, by the vendor in a model's name."""

TARGETS: dict[tuple[str, str], Target] = {
    ("w1", "one tool"): Target(150, 80),
    ("w1", "no tool"): Target(80, 40),
    ("w2", "turn 1,000 / turn 10"): Target(1.2, 1.2),
    ("w2", "turn 1,000 / turn 10, file"): Target(1.2, 1.2),
    ("w2", "storage / content"): Target(2, 2),
    ("w2", "storage / content, streamed"): Target(2, 2),
    ("w3", "per delta, 2,000"): Target(4, 2),
    ("w3", "per delta, 8,000"): Target(4, 2),
    ("w4", "16 calls"): Target(0.8, 0.4),
    ("w5", "one tool"): Target(0.9, 0.8),
    ("w5", "commits a turn"): Target(4, 4),
    ("w5", "commits a turn, pure tool"): Target(3, 3),
    ("w6", "1,000 sessions, memory"): Target(0.25, 0.15),
    ("w6", "1,000 sessions, file"): Target(0.4, 0.3),
    ("w7", "import"): Target(100, 80),
    ("w7", "first turn"): Target(150, 120),
    ("w7", "memory after it"): Target(35, 35),
    ("many", "100 sessions at once, file"): Target(3_000, 3_000, least=True),
    ("postgres", "50 sessions at once"): Target(800, 800, least=True),
    ("open", "100,000 events"): Target(50, 50),
    ("recover", "1,000 turns"): Target(5, 5),
    ("idle", "a worker, 1,000 sessions at rest"): Target(1, 1),
    ("control", "a policy and two hooks add"): Target(40, 40),
    ("control", "1,000 rules about hosts"): Target(50, 50),
    ("control", "1,000 rules about paths"): Target(50, 50),
    ("control", "1,000 rules with a * inside"): Target(50, 50),
    ("control", "1,000 rules with expressions"): Target(50, 50),
    ("control", "a guard with an expression, per delta"): Target(4, 4),
    ("control", "a guard with 100 words, per delta"): Target(4, 4),
    ("watch", "turn, watched / not"): Target(1.2, 1.2),
    ("watch", "a frozen reader"): Target(64, 64),
    **{("wire", f"a delta, {name}"): Target(12, 12) for name in PROTOCOLS},
    **{("wire", f"encode, {name}"): Target(60, 60) for name in PROTOCOLS},
    **{("wire", f"import, {name}"): Target(130, 130) for name in PROTOCOLS},
    **{("wire", f"1,000 streams, {name}, resident"): Target(120, 120) for name in PROTOCOLS},
}
"""By workload and figure, in the figure's unit. A figure that is not here is only shown."""


def target_of(figure: Figure) -> Target | None:
    """What this figure should not exceed, if anything."""
    return TARGETS.get((figure.workload, figure.name))


class Effort(Struct, frozen=True, kw_only=True):
    """How much is measured. The defaults are for figures that are quoted."""

    repeats: int = 5
    slice: float = 0.25
    """Seconds a repeat of short turns takes."""
    turns: int = 1_010
    """In one session, for W2: ten beyond the thousandth."""
    deltas: tuple[int, ...] = (2_000, 8_000)
    sessions: int = 1_000
    """At once for W6, cut off for `recover`, at rest for `idle`."""
    many: int = 100
    """Sessions at work side by side on a file."""
    postgres: int = 50
    """The same on Postgres."""
    events: int = 100_000
    """In the session that is opened."""
    speech: float = 10.0
    """Seconds for which an answer streams (ten times as fast) while its words are kept."""
    readers: int = 1_000
    """Of one session, who do not read."""
    idle: float = 10.0
    """Seconds for which an idle worker is watched."""
    trace: bool = True
    """Whether to count syncs with strace, where there is one."""


QUICK = Effort(repeats=3, slice=0.1, idle=3.0, trace=False)
