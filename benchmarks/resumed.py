"""Sessions that were left: opened by a new process, recovered after a kill, waited for by an idle worker."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from benchmarks import process
from benchmarks.calculator import QUESTION, one_turn
from benchmarks.cold import LIMIT, ROOT, environment
from benchmarks.figures import Effort, Figure
from benchmarks.left import AGENT, LEASE, Opened
from benchmarks.timing import MILLI, Took, figure_of, folder, timed
from holdfast import Runtime
from holdfast.archive import export_session, import_session
from holdfast.stores.sqlite import SQLiteStore

SETTLED = 1.0
"""Seconds after which a worker that started has nothing left to do."""


async def opened(effort: Effort) -> list[Figure]:
    """A long session on a file is opened, each time by a new process; its log was opened once before by another."""
    with folder() as place:
        path = place / "long.db"
        session_id, events = await _long_session(path, effort.events)
        first = [await timed(lambda: _open_once(path, session_id))]
        told = [_open_apart(path, session_id) for _ in range(effort.repeats)]
    if told[0].sequence < events:
        raise AssertionError(f"{told[0].sequence} of {events} events were found")
    name = f"{effort.events:,} events"
    return [
        _elapsed("open", name, [it.seconds for it in told]),
        _elapsed("open", f"{name}, and a first turn", [it.seconds + it.turn for it in told]),
        figure_of("open", f"{name}, first time, and close", "ms", MILLI, "wall", first),
    ]


def _elapsed(workload: str, name: str, seconds: list[float]) -> Figure:
    values = tuple(round(it * MILLI, 3) for it in seconds)
    return Figure(workload=workload, name=name, unit="ms", clock="wall", values=values)


async def _long_session(path: Path, events: int) -> tuple[str, int]:
    """Run turns in memory until there are so many events, and bring them into a file; their session and number."""
    async with Runtime() as runtime:
        session = await runtime.session(AGENT)
        while session.state.sequence < events:
            await session.run(QUESTION)
        lines = [line async for line in export_session(runtime.store, session.id)]
        made = session.state.sequence
    store = SQLiteStore(path)
    await store.open()
    session_id = await import_session(store, lines)
    await store.close()
    return session_id, made


async def _open_once(path: Path, session_id: str) -> None:
    async with Runtime(path, agents=[AGENT]) as runtime:
        await runtime.open(session_id)


def _open_apart(path: Path, session_id: str) -> Opened:
    done = subprocess.run(
        _left("open", str(path), session_id),
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=LIMIT,
    )
    return msgspec.json.decode(done.stdout, type=Opened)


def _left(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.left", *arguments]


async def recovered(effort: Effort) -> list[Figure]:
    """Turns that a killed process left, half in the model and half in a tool, until all have come to their end."""
    took = []
    for _ in range(min(effort.repeats, 3)):
        with folder() as place:
            path = place / "cut.db"
            _cut_off(path, effort.sessions)
            await asyncio.sleep(2 * LEASE)
            took.append(await timed(lambda where=path: _recover(where, effort.sessions)))  # type: ignore[misc]
    return [
        figure_of("recover", f"{effort.sessions:,} turns", "s", 1, "wall", took),
        figure_of("recover", "a turn", "ms", MILLI / effort.sessions, "wall", took),
    ]


def _cut_off(path: Path, number: int) -> None:
    """Have a process begin so many turns and kill itself."""
    command = _left("cut", str(path), str(number))
    killed = subprocess.run(command, env=environment(), cwd=ROOT, check=False, timeout=LIMIT)
    if killed.returncode != -signal.SIGKILL:
        raise AssertionError(f"the process to be killed ended by itself, with {killed.returncode}")


async def _recover(path: Path, number: int) -> None:
    recovered, doubts = 0, 0
    async with Runtime(path, agents=[AGENT]) as runtime:
        while found := await runtime.recover():
            for session in found:
                if session.turn is not None:
                    await session.turn
                if session.state.outcome is None or session.state.outcome.status != "completed":
                    raise AssertionError(f"{session} did not recover: {session.state.outcome}")
                doubts += len(session.in_doubt)
            recovered += len(found)
    if (recovered, doubts) != (number, number // 2):
        raise AssertionError(f"{recovered} of {number} turns were recovered, {doubts} with a call in doubt")


async def idle(effort: Effort) -> list[Figure]:
    """A worker process over a file whose sessions all rest: how much of a processor it takes."""
    with folder() as place:
        path = place / "rest.db"
        async with Runtime(path) as runtime:
            await asyncio.gather(*(one_turn(runtime, AGENT) for _ in range(effort.sessions)))
        took = _watch_worker(path, effort.idle)
    share = round(took.cpu / took.wall * 100, 4)
    name = f"a worker, {effort.sessions:,} sessions at rest"
    return [Figure(workload="idle", name=name, unit="% cpu", values=(share,))]


def _watch_worker(path: Path, seconds: float) -> Took:
    command = [sys.executable, "-m", "holdfast.cli", "worker", "--db", str(path)]
    worker = subprocess.Popen(
        [*command, "--agents", "benchmarks.left:AGENT"],
        env=environment(),
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    try:
        assert worker.stderr is not None
        said = worker.stderr.readline().decode()
        if not said.startswith("at work on"):
            raise AssertionError(f"the worker did not begin: {said}")
        time.sleep(SETTLED)
        began, cpu = time.perf_counter(), process.cpu_of(worker.pid)
        time.sleep(seconds)
        return Took(time.perf_counter() - began, process.cpu_of(worker.pid) - cpu)
    finally:
        worker.terminate()
        worker.communicate(timeout=LIMIT)
