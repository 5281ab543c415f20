"""One part of a workload in a process of its own, so that none sees the memory or the garbage of another.

python -m benchmarks.worker w6 0 '{"repeats": 3}'
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks import cold, control, fleet, resumed, streams, watchers, wire, workloads
from benchmarks.figures import Effort, Figure

LIMIT = 600
"""Seconds that a part may take."""

Part = Callable[[Effort], list[Figure]]


def _in_loop(run: Callable[[Effort], Coroutine[Any, Any, list[Figure]]]) -> Part:
    return lambda effort: asyncio.run(run(effort))


PARTS: dict[str, tuple[Part, ...]] = {
    "w1": (_in_loop(workloads.w1),),
    "w2": (_in_loop(workloads.w2), _in_loop(streams.streamed)),
    "w3": (_in_loop(workloads.w3),),
    "w4": (_in_loop(workloads.w4),),
    "w5": (_in_loop(workloads.w5), cold.syncs),
    "w6": (_in_loop(workloads.w6_memory), _in_loop(workloads.w6_file)),
    "w7": (cold.w7,),
    "many": (_in_loop(fleet.many),),
    "postgres": (_in_loop(fleet.postgres),),
    "open": (_in_loop(resumed.opened),),
    "recover": (_in_loop(resumed.recovered),),
    "idle": (_in_loop(resumed.idle),),
    "control": (_in_loop(control.control),),
    "watch": (_in_loop(watchers.watched), _in_loop(watchers.held)),
    "wire": (
        _in_loop(wire.deltas),
        _in_loop(wire.encoded),
        wire.imported,
        *(wire.crowd(protocol) for protocol in wire.DRIVERS),
    ),
}
"""What is measured, by workload."""


class Measured(Struct, frozen=True, kw_only=True):
    """What a worker hands back."""

    figures: list[Figure]
    collector: str
    """How the garbage collector was set."""


def measure(name: str, effort: Effort) -> list[Figure]:
    """Run a workload in this process."""
    return [figure for part in PARTS[name] for figure in part(effort)]


def measure_apart(name: str, effort: Effort) -> list[Measured]:
    """Run each part of a workload in a new process. Raises `subprocess.SubprocessError` when that fails."""
    return [_apart(name, index, effort) for index in range(len(PARTS[name]))]


def _apart(name: str, index: int, effort: Effort) -> Measured:
    given = msgspec.json.encode(effort).decode()
    command = [sys.executable, "-m", "benchmarks.worker", name, str(index), given]
    done = subprocess.run(command, cwd=cold.ROOT, stdout=subprocess.PIPE, check=True, timeout=LIMIT)
    return msgspec.json.decode(done.stdout, type=Measured)


def _main(name: str, index: str, given: str) -> Measured:
    figures = PARTS[name][int(index)](msgspec.json.decode(given, type=Effort))
    collector = f"on {gc.get_threshold()}" if gc.isenabled() else "OFF"
    return Measured(figures=figures, collector=collector)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_main(*sys.argv[1:])))
