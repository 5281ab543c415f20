"""Many cases at once: fork servers side by side, and one tally of what came of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import msgspec

from tests.conftest import ROOT
from tests.crash.cases import Case, Verdict

SERVERS = 2 * (os.cpu_count() or 1)
"""Fork servers, two for each processor: what is killed waits for the disk most of the time."""

SHOWN = 5
"""Failures that a printed tally tells in full."""


@dataclass
class Tally:
    """What came of many cases."""

    cases: int = 0
    kills: int = 0
    seconds: float = 0.0
    places: Counter[str] = field(default_factory=Counter)
    """Kills, by where they were."""
    scenarios: Counter[str] = field(default_factory=Counter)
    """Kills, by what was played."""
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Take in one more."""
        self.cases += 1
        self.kills += len(verdict.killed)
        self.places.update(verdict.killed)
        self.scenarios[verdict.case.scenario] += len(verdict.killed)
        self.counts.update(verdict.counts)
        if verdict.problems:
            self.failures.append(verdict)

    @property
    def per_minute(self) -> float:
        """Kills in a minute."""
        return self.kills * 60 / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.kills} kills in {self.cases} cases, {self.seconds:.1f} s ({self.per_minute:,.0f} a minute): "
            f"{len(self.failures)} cases with problems",
            "places: " + ", ".join(f"{n} {place}" for place, n in self.places.most_common()),
            "scenarios: " + ", ".join(f"{n} {name}" for name, n in self.scenarios.most_common() if n),
            "seen: " + ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items())),
        ]
        lines += map(told, self.failures[:SHOWN])
        if len(self.failures) > SHOWN:
            lines.append(f"... and {len(self.failures) - SHOWN} more")
        return "\n".join(lines)


def told(verdict: Verdict) -> str:
    """A failure, and how to play it again."""
    listed = "".join(f"\n    {problem}" for problem in verdict.problems)
    return f"{verdict.case}{listed}\n    again: {again(verdict.case)}"


def again(case: Case) -> str:
    """The command that plays this case again."""
    return f"python -m scripts.torture --case '{msgspec.json.encode(case).decode()}'"


@dataclass(kw_only=True)
class Campaign:
    """What to play cases with, and when to stop."""

    url: str = ""
    """Of the Postgres for cases that are played on one."""
    plant: str = ""
    servers: int = SERVERS
    kills: float = float("inf")
    """How many are enough."""
    failures: float = float("inf")
    """And how many of these."""
    until: float = float("inf")
    """When to stop (`time.monotonic`)."""
    watch: Callable[[Tally], None] = lambda tally: None
    """Told after every case."""
    tally: Tally = field(default_factory=Tally)

    def play(self, cases: Iterable[Case]) -> Tally:
        """Play the cases, as many as it takes."""
        waiting, lock, started = iter(cases), Lock(), time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="holdfast-crash-") as place,
            ThreadPoolExecutor(self.servers) as threads,
        ):
            shifts = [
                threads.submit(self._serve, waiting, lock, Path(place), started) for _ in range(self.servers)
            ]
            for shift in shifts:
                shift.result()
        return self.tally

    def _serve(self, waiting: Iterator[Case], lock: Lock, place: Path, started: float) -> None:
        """Give one fork server what is next, as long as there is something."""
        command = [sys.executable, "-m", "tests.crash.forker", str(place), "--url", self.url]
        with subprocess.Popen(
            [*command, "--plant", self.plant], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            while (case := self._next(waiting, lock)) is not None:
                server.stdin.write(msgspec.json.encode(case) + b"\n")
                server.stdin.flush()
                line = server.stdout.readline()
                if not line:
                    raise RuntimeError(f"the fork server died over {case}")
                with lock:
                    self.tally.add(msgspec.json.decode(line, type=Verdict))
                    self.tally.seconds = time.monotonic() - started
                    self.watch(self.tally)
            server.stdin.close()

    def _next(self, waiting: Iterator[Case], lock: Lock) -> Case | None:
        with lock:
            enough = self.tally.kills >= self.kills or len(self.tally.failures) >= self.failures
            if enough or time.monotonic() > self.until:
                return None
            return next(waiting, None)
