"""Where the time of a workload goes."""

from __future__ import annotations

import cProfile
import io
import pstats
import re
import subprocess
import sys

from benchmarks.cold import IMPORT, LIMIT, ROOT
from benchmarks.figures import Effort
from benchmarks.worker import measure

TOP = 35


def profile(name: str, effort: Effort) -> str:
    """The functions with the most time of their own, and the most in all; for W7, the slowest imports.

    A profile weighs calls too heavily and sees the event loop's thread only: on a file, the writing thread is missing.
    """
    return _imports() if name == "w7" else _functions(name, effort)


def _functions(name: str, effort: Effort) -> str:
    profiler = cProfile.Profile()
    profiler.runcall(measure, name, effort)
    text = io.StringIO()
    stats = pstats.Stats(profiler, stream=text)
    stats.sort_stats("tottime").print_stats(TOP)
    stats.sort_stats("cumulative").print_stats(r"src/holdfast", TOP)
    return _without_places(text.getvalue())


def _imports() -> str:
    command = [sys.executable, "-X", "importtime", "-c", IMPORT]
    told = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True, timeout=LIMIT).stderr
    rows = [line.removeprefix("import time:").split("|") for line in told.splitlines()[1:]]
    slowest = sorted(rows, key=lambda row: int(row[0]), reverse=True)[:TOP]
    lines = [f"{int(own):>8,} {int(whole):>8,}  {module.strip()}" for own, whole, module in slowest]
    return "\n".join(["own µs  with its own imports  module", *lines])


def _without_places(text: str) -> str:
    """The same with paths from this checkout, or from the library, only."""
    return re.sub(r"\S*/(site-packages|python3\.\d+)/", "", text.replace(f"{ROOT}/", ""))
