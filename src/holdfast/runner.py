"""The runner: drives one session's turns, one after another, in a task that the runtime owns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from itertools import chain
from typing import Any

from holdfast.drift import Drift
from holdfast.errors import RuntimeClosed, Superseded
from holdfast.events import EventContext, TurnCancelled
from holdfast.handle import TurnResult, ended, from_log, resting
from holdfast.journal import Journal
from holdfast.mail import Mail
from holdfast.manifest import Manifest
from holdfast.turn.after import catch_up, overdue
from holdfast.turn.deliver import again_at, deliver, deliverable
from holdfast.turn.finish import finish
from holdfast.turn.loop import run_turn
from holdfast.turn.step import Rest, Wait, Waiting

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Future[None]"]


class Runner:
    """Brings a session's accepted inputs to rest, and tells those who wait for them."""

    def __init__(
        self,
        journal: Journal,
        spawn: Spawn,
        manifest: Callable[[], Awaitable[Manifest]],
        *,
        drives: bool = True,
        listen: Callable[[], None] = lambda: None,
        drift: Drift | None = None,
    ) -> None:
        self.journal = journal
        self._spawn = spawn
        self._listen = listen
        """See to it that letters for this session are noticed soon."""
        self._mail = Mail(journal, manifest)
        self.drives = drives
        self.manifest = manifest
        """What the next turn would run under."""
        self.drift = drift
        """What becomes of a turn whose manifest has changed, or whose agent is out of use; None: it goes on."""
        self._task: asyncio.Future[None] | None = None
        self._waiters: dict[str, list[asyncio.Future[TurnResult]]] = {}
        self._last: TurnResult | None = None
        self._failure: BaseException | None = None
        self._cancelling: tuple[str, str, int] | None = None
        """The turn to end, why, and the letter that asks for it (0: none does)."""
        self._interrupting = False
        """Whether the task was cancelled to end a turn, and does not know yet."""
        self._driving = False
        self._resting = False
        """Whether the session waits for answers."""
        self._retiring = False
        self._starts = 0
        self._nudge: asyncio.Event | None = None
        self.patient = True
        """Whether to stay while a model call is due again only after some time. A worker does not."""

    async def begins_with(self, key: str = "") -> Manifest | None:
        """What a turn that begins here runs under; None where others drive, and begin it.

        Raises `AgentUnavailable` for what was not accepted before, under this key.
        """
        if self.drift is not None and key not in self.journal.state.keys:
            await self.drift.check_available()
        return await self.manifest() if self.drives else None

    def check_open(self) -> None:
        """Raise `RuntimeClosed` when the runtime has begun to close."""
        if self._retiring:
            raise RuntimeClosed(
                f"the runtime is closed; open session {self.journal.state.session_id} with another one"
            )

    def start(self) -> None:
        """See to it that whatever is owed gets done, unless the runtime is closing: then it stays owed in the log."""
        if self._retiring or not self.drives:
            return
        self._starts += 1
        self._resting = False
        if self._nudge is not None:
            self._nudge.set()
        if self._task is None or self._task.done():
            self._failure = None
            self._interrupting = False
            self._task = self._spawn(self._work())

    def retire(self) -> None:
        """Bring the turn under way to its end or its next wait for an answer, and begin nothing after it."""
        self._retiring = True
        if self._nudge is not None:
            self._nudge.set()

    def stop(self) -> None:
        """Nothing more is done or recorded here; whoever waits is told."""
        closed = RuntimeClosed(f"the runtime of session {self.journal.state.session_id} was closed")
        if self.journal.broken is None:
            self.journal.broken = closed
        if not self._failure:
            self._fail(closed)

    @property
    def busy(self) -> bool:
        """Whether a task is at work."""
        return self._task is not None and not self._task.done()

    async def result(self, turn_id: str) -> TurnResult:
        """The turn at rest. Raises what broke it when the log or configuration did, `UnknownTurn` for a stranger."""
        if self._last is not None and self._last.turn_id == turn_id:
            return self._last
        if self._resting:
            await self.catch_up()
        if not self.drives:
            await self.journal.refresh()
        elif not self.busy and not self.journal.ours and not self._retiring:
            await self._until_ours(turn_id)
        status = self.journal.state.status_of(turn_id)
        if status in ("running", "queued"):
            return await self._result_of_one_underway(turn_id)
        if status is not None:
            await self.journal.flush()  # the last turn's end may still be on its way
        elif await self._mail.pending(turn_id) or self._underway(turn_id):
            return resting(self.journal.state, turn_id)
        return await from_log(turn_id, self.journal)

    async def _result_of_one_underway(self, turn_id: str) -> TurnResult:
        if self.busy and not self._resting:
            return await self._wait(turn_id)
        if self._failure is not None:
            raise self._failure
        if not self._resting:
            self.check_open()
            if self._is_idle():
                self.start()
                return await self._wait(turn_id)
        standing = resting(self.journal.state, turn_id)
        if standing.status == "running" and self._is_idle() and not self._retiring:
            # What it waited for is folded, and still on its way to the disk.
            self.start()
            return await self._wait(turn_id)
        return standing

    async def catch_up(self) -> None:
        """Take in what another process recorded while nothing was done here, such as an answer, and go on with it."""
        if not self.drives or self._retiring or (self.busy and not self._resting):
            return
        await self.journal.refresh()
        state = self.journal.state
        waits = self._resting and state.turn is not None and resting(state, state.turn.id).status == "waiting"
        if state.due() is not None and not waits:
            self.start()

    async def _until_ours(self, turn_id: str) -> None:
        """While another process works on this turn, follow its log; take over when that process is gone."""
        seen = await self.journal.store.woken(0)
        while await self._mail.pending(turn_id) or self._underway(turn_id):
            if await self.journal.look():
                await self.collect()
                break
            seen = await self.journal.store.woken(1.0, seen)
        if self.journal.ours and self.journal.state.due() is not None:
            self.start()

    def _is_idle(self) -> bool:
        """Whether something is owed here and nobody does it: the session became ours while it was looked at."""
        return self.drives and not self.busy and self.journal.ours and self.journal.state.due() is not None

    def _underway(self, turn_id: str) -> bool:
        return self.journal.state.status_of(turn_id) in ("running", "queued")

    async def _wait(self, turn_id: str) -> TurnResult:
        waiter: asyncio.Future[TurnResult] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(turn_id, []).append(waiter)
        return await waiter

    async def cancel(self, turn_id: str, reason: str) -> TurnResult:
        """End the turn as cancelled, wherever it stands. One that has ended stays as it ended."""
        journal = self.journal
        await journal.refresh()
        if await self._mail.pending(turn_id):  # the input was left in a letter: so is its end
            await self._mail.ask_end(turn_id, reason)
        elif self._underway(turn_id):
            if await journal.look():
                await self._end(turn_id, reason)
            else:
                await self._mail.ask_end(turn_id, reason)
        return await self.result(turn_id)

    async def _end(self, turn_id: str, reason: str, letter: int = 0) -> bool:
        """See to it that the turn ends, as this letter asks; False when it has ended already."""
        journal, status = self.journal, self.journal.state.status_of(turn_id)
        if status == "queued":
            journal.stage(TurnCancelled(iterations=0, reason=reason), context=EventContext(turn_id=turn_id))
            outcome = journal.state.outcome
            if letter:
                journal.take(letter)
            await journal.flush()
            if outcome is not None:
                self._announce(ended(outcome))
        elif status == "running" and not self.drives:
            await self._mail.ask_end(turn_id, reason)
        elif status == "running" and (self._cancelling is None or self._cancelling[0] != turn_id):
            self._cancelling = (turn_id, reason, letter)
            self._resting = False
            if self._driving and self._task is not None:
                self._interrupting = True
                self._task.cancel()
            else:
                self.check_open()
                self.start()
        return status in ("running", "queued")

    async def collect(self) -> None:
        """Take in the letters that were left for this session, unless another process is at work on it."""
        if self.drives and await self._mail.collect(self._end):
            self.start()

    def _cancel_asked(self) -> tuple[str, str, int] | None:
        turn = self.journal.state.turn
        if self._cancelling is not None and (turn is None or turn.id != self._cancelling[0]):
            self._cancelling = None
        return self._cancelling

    async def _work(self) -> None:
        try:
            while await self._next():
                pass
        except asyncio.CancelledError:
            closed = f"the runtime was closed while session {self.journal.state.session_id} was at work"
            lost = self.journal.broken
            self._fail(lost if isinstance(lost, Superseded) else RuntimeClosed(closed))
            raise
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self.journal.audience.fail(error)
        waiters, self._waiters = self._waiters, {}
        for waiter in chain.from_iterable(waiters.values()):
            if not waiter.done():
                waiter.set_exception(error)

    async def _next(self) -> bool:
        """Drive until the session rests; whether something is owed then."""
        self._driving = True
        self._listen()
        try:
            if self.journal.fresh:
                await self.collect()
            if not self.journal.ours and not await self._regain():
                return False
            manifest = await self.manifest()
            if self.drift is not None and not self._cancel_asked():
                manifest = await self.drift.under(manifest)
            more = await self._rest(manifest)
            if not more:
                await self._announce_ended()  # what ended elsewhere while this writer had let go
            return self._interrupted() or more
        except asyncio.CancelledError:
            if not self._interrupted():
                raise
            await self._announce_ended()  # one whose last hooks were cut off
            return True
        finally:
            self._driving = False
            self._listen()

    async def _regain(self) -> bool:
        """Another process took the session over: tell those who wait here of what ends there; whether it is ours again
        (then that process is gone, or done)."""
        seen = await self.journal.store.woken(0)
        while not await self.journal.look():
            await self._announce_ended()
            if not self._waiters or self._retiring:
                return False
            seen = await self.journal.store.woken(1.0, seen)
        return True

    def _interrupted(self) -> bool:
        """Whether this task was cancelled by `cancel`, and only by it. Asking takes note of it."""
        if not self._interrupting:
            return False
        self._interrupting = False
        task = asyncio.current_task()
        return task is not None and task.uncancel() == 0

    def _told_to_stop(self) -> bool:
        """Whether the task is being cancelled: by `cancel`, or because the runtime closes."""
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    async def _rest(self, manifest: Manifest) -> bool:
        starts, self._resting = self._starts, False
        self.journal.driver = self._task
        try:
            rest = await self._go_on(manifest)
        finally:
            self.journal.driver = None
        if rest is None:
            return True
        if not isinstance(rest, Waiting):
            self._announce(ended(rest))
            await self.journal.keep_state()
            more = self.journal.state.due() is not None or self._starts != starts
            return bool(deliverable(self.journal)) or (not self._retiring and more)
        if self._starts != starts:
            return not self._retiring
        turn = self.journal.state.turn
        put_off = rest.wait.deferred and self._retiring
        if rest.wait.asks or put_off or (turn is not None and (turn.parked or turn.held_back)):
            self._announce_rest()
        if rest.wait.until is None or (self._retiring and rest.wait.asks) or put_off:
            return False
        away = self.journal.leave()
        if away and not self.patient:
            self._announce_rest()
            return False
        await self._pause(rest.wait.until)
        seen = await self.journal.store.woken(0) if away else None
        while away and not await self.journal.look():
            await self._announce_ended()
            seen = await self.journal.store.woken(1.0, seen)
        return True

    async def _go_on(self, manifest: Manifest) -> Rest | None:
        """End the turn as somebody asked, or do what is owed after one (None), or bring the turn to rest."""
        if cancel := self._cancel_asked():
            if cancel[2]:
                self.journal.take(cancel[2])
            return await finish("cancelled", self.journal, manifest, cancel[1])
        if before := overdue(self.journal):
            await catch_up(before, self.journal, manifest)
            return None
        if owed := deliverable(self.journal):
            await deliver(owed[0], self.journal, manifest)
            return None
        rest = await run_turn(self.journal, manifest, self._told_to_stop)
        if isinstance(rest, Waiting) and not self._retiring and (until := again_at(self.journal)):
            return Waiting(Wait(until=until))
        return rest

    async def _pause(self, until: datetime) -> None:
        """Sleep until this instant, or until somebody starts the runner again."""
        self._nudge = asyncio.Event()
        try:
            async with asyncio.timeout(max(0.0, (until - self.journal.now()).total_seconds())):
                await self._nudge.wait()
        except TimeoutError:
            if not self.journal.state.asks:  # those end by the calendar
                self.journal.reached = until
        finally:
            self._nudge = None

    def _announce(self, result: TurnResult) -> None:
        self._last = result
        self._answer(result)

    async def _announce_ended(self) -> None:
        """Tell those who wait for turns that ended meanwhile."""
        for turn_id in tuple(self._waiters):
            if not self._underway(turn_id):
                self._announce(await from_log(turn_id, self.journal))

    def _announce_rest(self) -> None:
        """The session waits for answers: so do this turn and all behind it."""
        self._resting = True
        for turn_id in tuple(self._waiters):
            self._answer(resting(self.journal.state, turn_id))

    def _answer(self, result: TurnResult) -> None:
        for waiter in self._waiters.pop(result.turn_id, ()):
            if not waiter.done():
                waiter.set_result(result)
