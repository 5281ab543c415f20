"""What a crash test found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

SHOWN = 10
"""Problems that a printed report shows in full."""


class CrashProblem(Struct, frozen=True, kw_only=True):
    """Something that must not be, and where the process was killed for it to happen."""

    what: str
    killed: tuple[str, ...]
    """Where each process died, in order; empty when it goes wrong without any crash."""

    def __str__(self) -> str:
        if not self.killed:
            return f"{self.what}\n    without any crash"
        where = ", recovered, killed again ".join(self.killed)
        return f"{self.what}\n    killed {where}, and recovered"


class ToolTally(Struct, frozen=True, kw_only=True):
    """What became of one tool's calls, over all runs of the scenario."""

    tool: str
    effect: str
    calls: int
    again: int
    """Calls that ran more than once."""
    in_doubt: int


class CrashReport(Struct, frozen=True, kw_only=True):
    """What `crashtest` found. Print it, and `check()` it."""

    boundaries: int
    """Places of the undisturbed scenario at which a process can be killed."""
    scenarios: int
    """How often the scenario was played, killed each time somewhere else."""
    kills: int
    skipped: int
    """Scenarios that were left out because of the limit."""
    tools: tuple[ToolTally, ...]
    ends: dict[str, int]
    """How the turns ended: their last events' types and numbers, `waiting` for those that wait for an answer."""
    problems: tuple[CrashProblem, ...]

    def check(self) -> None:
        """Raise `AssertionError`, with everything that was found, unless nothing was."""
        if self.problems:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        kinds = len({problem.what for problem in self.problems})
        found = "no problem" if not kinds else "1 problem" if kinds == 1 else f"{kinds} problems"
        lines = [f"{self.boundaries} boundaries, {self.kills} kills in {self.scenarios} runs: {found}"]
        if self.skipped:
            lines.append(f"{self.skipped} more runs were left out; raise limit= to play them")
        lines += _table(self.tools)
        lines.append(
            "turns: " + (", ".join(f"{n} {kind}" for kind, n in sorted(self.ends.items())) or "none")
        )
        return "\n".join([*lines, *_listed(self.problems)])


def _table(tools: Iterable[ToolTally]) -> list[str]:
    rows = [("tool", "effect", "calls", "ran again", "in doubt")]
    rows += [(it.tool, it.effect, str(it.calls), str(it.again), str(it.in_doubt)) for it in tools]
    if len(rows) == 1:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _listed(problems: Iterable[CrashProblem]) -> list[str]:
    """One entry for each thing that went wrong, with the first and shortest way to it."""
    first: dict[str, CrashProblem] = {}
    count = Counter(problem.what for problem in problems)
    for problem in problems:
        known = first.get(problem.what)
        if known is None or len(problem.killed) < len(known.killed):
            first[problem.what] = problem
    lines = []
    for problem in list(first.values())[:SHOWN]:
        lines += ["", str(problem)]
        if (more := count[problem.what] - 1) > 0:
            lines.append(f"    (and in {more} more {'run' if more == 1 else 'runs'})")
    if len(first) > SHOWN:
        lines += ["", f"... and {len(first) - SHOWN} more"]
    return lines
