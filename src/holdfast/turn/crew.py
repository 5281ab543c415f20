"""Crew: the calls of a batch while some of them wait for an answer. One that is answered joins those at work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.roster import blocker_in
from holdfast.stragglers import Start
from holdfast.turn.bell import Bell
from holdfast.turn.call import Ready
from holdfast.turn.consult import consult, unconsulted
from holdfast.turn.decide import decide
from holdfast.turn.lanes import Lane, lane_of, run_lane, start
from holdfast.turn.step import Act, Owed, settling

Bring = Callable[[Owed, Journal, Manifest], Awaitable[Ready | None]]
"""Stages what stands in the way of a call; the call made ready when nothing does."""

SOON = 0.01
"""Seconds after which to look again for an ask that is about to expire."""


class Crew:
    """Calls at work, those that are answered meanwhile, and the approver who is asked about the others."""

    def __init__(self, journal: Journal, manifest: Manifest, bring: Bring) -> None:
        self._journal = journal
        self._manifest = manifest
        self._bring = bring
        self._slots = asyncio.Semaphore(manifest.tool_concurrency)
        self._locks: dict[str, asyncio.Lock] = {}
        self._at_work: set[str] = set()

    async def run(self, ready: list[Ready]) -> None:
        """Run these calls, and whatever is answered until the last of them ends. Raises `StoreError`."""
        self._at_work.update(call.call.id for call in ready)
        lanes: list[Lane] = []
        claimed: set[str] = set()
        if ready:
            lanes, claimed = await start(ready, self._journal, self._manifest)
        await self._journal.flush()
        codes = [self._lane(lane, claimed) for lane in lanes] + [begin() for begin in self._consulting()]
        if codes:
            await self._journal.stragglers.side_by_side(codes, self._joining)

    async def _lane(self, lane: Lane, claimed: set[str]) -> None:
        name = lane_of(lane[0], self._manifest.parallel_calls)
        async with self._locks.setdefault(name, asyncio.Lock()), self._slots:
            await run_lane(lane, claimed, self._journal, self._manifest)

    async def _joining(self) -> list[Start]:
        """Wait until something can be done besides what is at work."""
        while True:
            owed = self._answered()
            self._at_work.update(need.call_id for need in owed)
            if more := [partial(self._late, need) for need in owed] + self._consulting():
                return more
            await self._wait()

    def _answered(self) -> list[Owed]:
        """What was asked about, can go on now, and is not at work."""
        state = self._journal.state
        if state.turn is None or state.turn.failure is not None:
            return []
        match decide(state, self._manifest, self._journal.present()):
            case Act(owed):
                calls = state.turn.calls
                if blocker_in(self._journal.scope):  # nothing is run any more; the loop ends the turn
                    owed = settling(Act(owed))
                return [it for it in owed if calls[it.call_id].ask_id and it.call_id not in self._at_work]
        return []

    async def _late(self, need: Owed) -> None:
        """Bring a call that was answered to its outcome, or to its next ask."""
        journal = self._journal
        ready = await self._bring(need, journal, self._manifest)
        await journal.flush()
        if ready is not None and journal.running.failure is None:
            await self._lane([ready], set())
        self._at_work.discard(need.call_id)
        journal.derived(Bell).ring()

    def _consulting(self) -> list[Start]:
        """Put to the approver what it was not asked about."""
        found = unconsulted(self._journal, self._manifest)
        return [partial(consult, ask, self._journal, self._manifest) for ask in found]

    async def _wait(self) -> None:
        """Wait until an ask is answered, or expires."""
        bell = self._journal.derived(Bell)
        ends = [ask.expires_at for ask in self._journal.state.asks.values() if ask.expires_at is not None]
        seconds = (min(ends) - self._journal.present()).total_seconds() if ends else None
        try:
            async with asyncio.timeout(None if seconds is None else max(seconds, SOON)):
                await bell.rung()
        except TimeoutError:
            pass  # it has expired
