"""W1 to W6: what is run, and which figures come of it.

Everything goes through the front door (`Runtime`, `Agent`, `session.run`), with the garbage collector as Python starts
it. A repeat begins after a full collection, so that no workload pays for the garbage of the one before.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from functools import partial
from pathlib import Path

import msgspec

from benchmarks import process
from benchmarks.calculator import ANSWER, DELTA, QUESTION, READ, Calculator, Gate, calculator, one_turn
from benchmarks.commits import counted
from benchmarks.figures import Effort, Figure
from benchmarks.timing import MICRO, MILLI, Took, figure_of, folder, timed
from holdfast import Agent, Lagged, Runtime, Session, TextDelta
from holdfast.events import encode_event

KIB = 1024
WARM = 10
"""Turns before anything is timed."""


async def w1(effort: Effort) -> list[Figure]:
    """One turn in a fresh session, in memory: with one tool call, and without."""
    return [
        figure_of(
            "w1", name, "µs", MICRO, "cpu", await _turns(None, calculator(Calculator(calls=calls)), effort)
        )
        for name, calls in (("one tool", 1), ("no tool", 0))
    ]


async def w2(effort: Effort) -> list[Figure]:
    """The same turn again and again in one session: late ones against early ones, and what the file comes to."""
    agent = calculator(Calculator())
    async with Runtime() as runtime:
        for _ in range(WARM):
            await one_turn(runtime, agent)
        memory = [
            await _long_session(await runtime.session(agent), effort.turns) for _ in range(effort.repeats)
        ]
    with folder() as place:
        path = place / "long.db"
        async with Runtime(path) as runtime:
            session = await runtime.session(agent)
            file = await _long_session(session, effort.turns)
        stored = sum(part.stat().st_size for part in place.iterdir())
        content, transcript = await _contents(path, session.id, agent)
    late = effort.turns - WARM
    return [
        _ratio(f"turn {late:,} / turn {WARM}", memory, late),
        figure_of("w2", f"turn {WARM}", "µs", MICRO, "cpu", [_around(it, WARM) for it in memory]),
        figure_of("w2", f"turn {late:,}", "µs", MICRO, "cpu", [_around(it, late) for it in memory]),
        _ratio(f"turn {late:,} / turn {WARM}, file", [file], late),
        Figure(workload="w2", name="storage / content", unit="×", values=(stored / content,)),
        Figure(workload="w2", name="storage / transcript", unit="×", values=(stored / transcript,)),
        Figure(workload="w2", name="stored a turn", unit="bytes", values=(stored / effort.turns,)),
    ]


async def w3(effort: Effort) -> list[Figure]:
    """One streamed delta to a consumer who reads the turn as it happens."""
    figures = []
    cases = [(f"{deltas:,}", deltas, READ) for deltas in effort.deltas]
    for name, deltas, read in (*cases, (f"{effort.deltas[0]:,}, one a read", effort.deltas[0], 1)):
        agent = calculator(Calculator(deltas=deltas, read=read))
        async with Runtime() as runtime:
            seen = await _stream(runtime, agent, deltas)
            took = [await timed(partial(_stream, runtime, agent, deltas)) for _ in range(effort.repeats)]
        figures.append(figure_of("w3", f"per delta, {name}", "µs", MICRO / deltas, "cpu", took))
        figures.append(Figure(workload="w3", name=f"seen, of {name}", unit="deltas", values=(seen,)))
    return figures


async def w4(effort: Effort) -> list[Figure]:
    """One turn with sixteen calls side by side, in a fresh session, in memory."""
    took = await _turns(None, calculator(Calculator(calls=16)), effort)
    return [figure_of("w4", "16 calls", "ms", MILLI, "cpu", took)]


async def w5(effort: Effort) -> list[Figure]:
    """The turn of W1 on a file: its time, its commits, what it writes."""
    figures = []
    for name, effect in (("", "once"), (", pure tool", "pure")):
        agent = calculator(Calculator(), effect=effect)  # type: ignore[arg-type]
        with folder() as place:
            took = await _turns(place / "timed.db", agent, effort)
            syncs = process.sync_times(str(place))
            commits, written = await _costs(place / "counted.db", agent)
        figures += [
            figure_of("w5", "one tool" + name, "ms", MILLI, "wall", took),
            Figure(workload="w5", name="commits a turn" + name, unit="", values=(commits,)),
            Figure(workload="w5", name="written a turn" + name, unit="KiB", values=(written / KIB,)),
        ]
    probe = tuple(round(seconds * MILLI, 4) for seconds in syncs)
    return [
        *figures,
        Figure(workload="w5", name="the disk: 4 KiB and fdatasync", unit="ms", clock="wall", values=probe),
    ]


async def w6_memory(effort: Effort) -> list[Figure]:
    """A thousand sessions in flight at once, one turn each, in memory."""
    return await _crowds("memory", None, effort)


async def w6_file(effort: Effort) -> list[Figure]:
    """The same on a file. Apart from the other, whose freed memory it would seem to do without."""
    with folder() as place:
        return await _crowds("file", place / "crowd.db", effort)


async def _crowds(where: str, path: Path | None, effort: Effort) -> list[Figure]:
    model = Calculator()
    agent = calculator(model)
    async with Runtime(path) as runtime:
        for _ in range(WARM):
            await one_turn(runtime, agent)
        gc.collect()
        before = process.resident()
        crowds = [await _crowd(runtime, agent, model, effort.sessions) for _ in range(effort.repeats)]
    name = f"{effort.sessions:,} sessions, {where}"
    return [
        figure_of("w6", name, "s", 1, "wall", [took for took, _, _ in crowds]),
        # later crowds reuse the memory of the first
        Figure(
            workload="w6",
            name=f"a session in flight, {where}",
            unit="KiB",
            values=((crowds[0][1] - before) / effort.sessions / KIB,),
        ),
        Figure(
            workload="w6",
            name=f"a session at the peak, {where}",
            unit="KiB",
            values=((crowds[0][2] - before) / effort.sessions / KIB,),
        ),
    ]


async def _crowd(runtime: Runtime, agent: Agent, model: Calculator, sessions: int) -> tuple[Took, int, int]:
    """All of them, held in their first model call until the last is there; with the memory then, and at most."""
    gate = model.gate = Gate(sessions)
    held = 0

    async def let_go() -> None:
        nonlocal held
        await gate.full.wait()
        held = process.resident()
        gate.open()

    async def everybody() -> None:
        await asyncio.gather(let_go(), *(one_turn(runtime, agent) for _ in range(sessions)))

    process.forget_peak()
    took = await timed(everybody)
    model.gate = None
    return took, held, process.peak()


async def _turns(store: Path | None, agent: Agent, effort: Effort) -> list[Took]:
    """Seconds per turn, each in a fresh session, one after another."""
    async with Runtime(store) as runtime:

        async def turns(number: int) -> None:
            for _ in range(number):
                await one_turn(runtime, agent)

        await turns(WARM)
        guess = (await timed(partial(turns, WARM))).wall / WARM
        number = max(5, min(4_000, int(effort.slice / guess)))
        repeats = [await timed(partial(turns, number)) for _ in range(effort.repeats)]
    return [Took(wall / number, cpu / number) for wall, cpu in repeats]


async def _long_session(session: Session, turns: int) -> list[Took]:
    """Every turn of one session."""
    gc.collect()
    took = []
    for _ in range(turns):
        cpu, wall = time.process_time(), time.perf_counter()
        result = await session.run(QUESTION)
        took.append(Took(time.perf_counter() - wall, time.process_time() - cpu))
        if result.text != ANSWER:
            raise AssertionError(f"a turn ended {result.status} on {result.text!r}: {result.error}")
    return took


def _around(turns: list[Took], turn: int) -> Took:
    """The median of the twenty turns around this one."""
    some = turns[max(0, turn - 10) : turn + 10]
    return Took(statistics.median(it.wall for it in some), statistics.median(it.cpu for it in some))


def _ratio(name: str, sessions: list[list[Took]], late: int) -> Figure:
    pairs = [(_around(it, late), _around(it, WARM)) for it in sessions]
    return Figure(
        workload="w2",
        name=name,
        unit="×",
        clock="cpu",
        values=tuple(late.cpu / early.cpu for late, early in pairs),
        other=tuple(late.wall / early.wall for late, early in pairs),
    )


async def _contents(path: Path, session_id: str, agent: Agent) -> tuple[int, int]:
    """Bytes of this session's events as JSON lines, and of its messages as JSON."""
    size = after = 0
    async with Runtime(path) as runtime:
        session = await runtime.open(session_id, agent, read_only=True)
        while page := await session.events(after):
            size += sum(len(encode_event(event)) + 1 for event in page)
            after = page[-1].sequence
        return size, len(msgspec.json.encode(await session.messages()))


async def _stream(runtime: Runtime, agent: Agent, deltas: int) -> int:
    """Read one streamed turn to its end; how many deltas were seen. One that was missed fails the run."""
    session = await runtime.session(agent)
    turn = await session.send(QUESTION)
    seen = characters = missed = 0
    async for item in turn:
        if isinstance(item, TextDelta):
            seen += 1
            characters += len(item.text)
        elif isinstance(item, Lagged):
            missed += item.missed
    result = await turn
    if missed or characters != deltas * len(DELTA) or len(result.text) != characters:
        raise AssertionError(
            f"{characters} characters of {deltas} deltas were seen and {missed} items missed"
        )
    return seen


async def _costs(path: Path, agent: Agent, turns: int = 20) -> tuple[float, float]:
    """Commits and bytes written per turn."""
    with counted() as commits:
        async with Runtime(path) as runtime:
            await one_turn(runtime, agent)
            committed, wrote = commits.number, process.written()
            for _ in range(turns):
                await one_turn(runtime, agent)
            return (commits.number - committed) / turns, (process.written() - wrote) / turns
