"""W7, and what else only a fresh process can tell: import, first turn, memory, syncs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.figures import Effort, Figure

ROOT = Path(__file__).resolve().parent.parent
FIRST_TURN = Path(__file__).with_name("first_turn.py")
IMPORT = "from holdfast import Agent, Runtime, tool"
"""What a program needs for its first turn."""
COUNT = (
    "; import os, sys; pages = int(open('/proc/self/statm').read().split()[1]); "
    "print(len(sys.modules), pages * os.sysconf('SC_PAGE_SIZE'))"
)
MIB = 1024 * 1024
LIMIT = 120
"""Seconds that any of these processes may take."""


class Ran(msgspec.Struct, kw_only=True):
    """What `first_turn.py` says of itself."""

    seconds: float
    resident: int
    modules: int


def w7(effort: Effort) -> list[Figure]:
    """A cold start. Every time is of a whole process, the interpreter's own start included."""
    python(IMPORT)  # fills the page cache, and compiles what is not compiled yet
    alone, imports = [], []
    for _ in range(effort.repeats):
        alone.append(python("pass")[0])
        imports.append(python(IMPORT)[0])
    modules, resident = map(int, python(IMPORT + COUNT)[1].split())
    first_turn()
    turns = [first_turn() for _ in range(effort.repeats)]
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        durable = [first_turn(f"{folder}/{number}.db") for number in range(effort.repeats)]
    return [
        _elapsed("import", imports),
        _elapsed("python alone", alone),
        _elapsed("first turn", [it.seconds for it in turns]),
        _elapsed("first turn, file", [it.seconds for it in durable]),
        _counted("memory after it", "MiB", [it.resident / MIB for it in turns]),
        _counted("memory after it, file", "MiB", [it.resident / MIB for it in durable]),
        _counted("memory after import", "MiB", [resident / MIB]),
        _counted("modules after import", "", [modules]),
        _counted("modules after the first turn", "", [it.modules for it in turns]),
    ]


def first_turn(*arguments: str, before: tuple[str, ...] = ()) -> Ran:
    """Run `first_turn.py` under the command `before`, if any."""
    command = [*before, sys.executable, str(FIRST_TURN), *arguments]
    told = {**environment(), "BENCH_BEGAN": repr(time.time())}
    done = subprocess.run(command, env=told, stdout=subprocess.PIPE, check=True, timeout=LIMIT)
    return msgspec.json.decode(done.stdout, type=Ran)


def syncs(effort: Effort) -> list[Figure]:
    """Syncs per durable turn, counted from outside: start and end of a process cancel out between two runs."""
    strace = shutil.which("strace")
    if strace is None or not effort.trace:
        return []
    counts = []
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        for turns in (5, 25):
            told = Path(folder, f"{turns}.txt")
            tracing = (strace, "-f", "-c", "-e", "trace=fsync,fdatasync,msync", "-o", str(told))
            first_turn(f"{folder}/{turns}.db", str(turns), before=tracing)
            counts.append(_total(told.read_text()))
    return [Figure(workload="w5", name="syncs a turn", unit="", values=((counts[1] - counts[0]) / 20,))]


def _total(table: str) -> int:
    """The calls in what `strace -c` wrote."""
    rows = [line.split() for line in table.splitlines()]
    return sum(int(row[3]) for row in rows if row and row[-1] in ("fsync", "fdatasync", "msync"))


def python(code: str) -> tuple[float, str]:
    """Run this in a fresh process: seconds that elapsed, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=LIMIT,
    )
    return time.perf_counter() - began, done.stdout


def environment() -> dict[str, str]:
    """Ours, with this package to be found and bytecode kept as it would be for a user."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(places)}


def _elapsed(name: str, seconds: list[float]) -> Figure:
    values = tuple(round(it * 1e3, 2) for it in seconds)
    return Figure(workload="w7", name=name, unit="ms", clock="wall", values=values)


def _counted(name: str, unit: str, numbers: list[float]) -> Figure:
    return Figure(workload="w7", name=name, unit=unit, values=tuple(round(it, 2) for it in numbers))
