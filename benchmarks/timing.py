"""How a piece of work is timed, and what becomes of the repeats."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Clock, Figure

MICRO, MILLI = 1e6, 1e3


class Took(NamedTuple):
    """Seconds: elapsed, and of processor time in every thread."""

    wall: float
    cpu: float


async def timed(work: Callable[[], Awaitable[object]]) -> Took:
    """Do it once, after a full collection."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    await work()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def figure_of(workload: str, name: str, unit: str, scale: float, clock: Clock, took: list[Took]) -> Figure:
    """The repeats as a figure by this clock, in a unit of which `scale` make a second."""
    wall = tuple(round(it.wall * scale, 4) for it in took)
    cpu = tuple(round(it.cpu * scale, 4) for it in took)
    values, other = (cpu, wall) if clock == "cpu" else (wall, cpu)
    return Figure(workload=workload, name=name, unit=unit, clock=clock, values=values, other=other)


def rate_of(workload: str, name: str, unit: str, number: int, took: list[Took]) -> Figure:
    """How many of these `number` things are done in a second that elapses; beside it, in one of processor time."""
    return Figure(
        workload=workload,
        name=name,
        unit=unit,
        clock="wall",
        values=tuple(round(number / it.wall, 1) for it in took),
        other=tuple(round(number / it.cpu, 1) for it in took),
    )


@contextmanager
def folder() -> Iterator[Path]:
    """A place for files that are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as place:
        yield Path(place)
