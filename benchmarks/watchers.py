"""What readers that stand still cost: the turns that go on meanwhile, and the memory."""

from __future__ import annotations

import gc
from functools import partial

from benchmarks import process
from benchmarks.calculator import QUESTION, Calculator, calculator
from benchmarks.figures import Effort, Figure
from benchmarks.timing import MICRO, Took, figure_of, folder, timed
from holdfast import Runtime, Session
from holdfast.watching.subscription import Subscription

TURNS = 100
"""That are timed together."""
KIB = 1024


async def watched(effort: Effort) -> list[Figure]:
    """Turns of one session in memory, with nobody watching and with `readers` subscriptions of which nobody reads."""
    alone, beside = [], []
    async with Runtime() as runtime:
        session = await runtime.session(calculator(Calculator()))
        await _turns(session, TURNS)
        for _ in range(effort.repeats):
            alone.append(await timed(partial(_turns, session, TURNS)))
            readers = await _frozen(runtime, session, effort.readers)
            beside.append(await timed(partial(_turns, session, TURNS)))
            for reader in readers:
                reader.close()
    ratios = tuple(round(more.cpu / less.cpu, 3) for less, more in zip(alone, beside, strict=True))
    return [
        _turn("turn, nobody watches", alone),
        _turn(f"turn, {effort.readers:,} frozen readers", beside),
        Figure(workload="watch", name="turn, watched / not", unit="×", values=ratios, clock="cpu"),
    ]


async def held(effort: Effort) -> list[Figure]:
    """Memory that a frozen reader takes, each in the middle of a page of the log, of a file that goes on being
    written."""
    with folder() as place:
        async with Runtime(place / "watched.db") as runtime:
            session = await runtime.session(calculator(Calculator()))
            await _turns(session, TURNS)
            before = await _grown(session)
            gc.collect()
            began = process.resident()
            readers = await _frozen(runtime, session, effort.readers)
            await _turns(session, TURNS)
            gc.collect()
            grown = process.resident() - began - before
            for reader in readers:
                reader.close()
    each = round(max(grown, 0) / effort.readers / KIB, 2)
    return [Figure(workload="watch", name="a frozen reader", unit="KiB", values=(each,))]


async def _grown(session: Session) -> int:
    """Bytes by which the process grows with the same turns, when nobody watches."""
    gc.collect()
    began = process.resident()
    await _turns(session, TURNS)
    gc.collect()
    return process.resident() - began


async def _turns(session: Session, turns: int) -> None:
    for _ in range(turns):
        await session.run(QUESTION)


async def _frozen(runtime: Runtime, session: Session, readers: int) -> list[Subscription]:
    """Subscriptions that were each given one event, and are not read any more."""
    found = [runtime.subscribe(session) for _ in range(readers)]
    for reader in found:
        await anext(reader)
    return found


def _turn(name: str, took: list[Took]) -> Figure:
    return figure_of("watch", name, "µs", MICRO / TURNS, "cpu", took)
