"""The journal: one session's log while it is open here.

    await journal.record(*facts)    durable before it returns, then published
    journal.stage(*facts)           folded now, durable with the next record
    journal.publish(signal)         live only

Recording is the only way to make a fact. The state is folded at once, so the next decision sees it; readers see an
event only when it is durable. A refused append means another writer holds the session: the journal is broken from
then on, writes nothing, and says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from msgspec import structs

from holdfast.errors import AccountExceeded, SessionHeld, StoreCorrupt, Superseded, UsageError
from holdfast.events import Event, EventContext, Fact, TurnRecovered
from holdfast.fold import extend, unplaced
from holdfast.folds.budgets import take_back
from holdfast.follow import Follower, OfTurn, Signal
from holdfast.history import History, catch_up
from holdfast.privacy.audience import Audience
from holdfast.services import Scope
from holdfast.state import State, TurnState
from holdfast.store import FREE, Entry, Store, Terms, Transaction
from holdfast.stragglers import Stragglers
from holdfast.writer import READER, Writer, claim

T = TypeVar("T")

UNCLAIMED = 0
"""The epoch of a journal that is not its session's writer."""

FIRST = 1
"""The epoch of the writer that creates a session."""

_NO_TURN = EventContext()


class Journal:
    """A session's log, its state, and those who follow it. One writer at a time; `epoch` is its right to write.

    While something is owed the session is held for `writer`, who renews the lease as long as he is at work.
    """

    def __init__(
        self,
        store: Store,
        now: Callable[[], datetime],
        state: State,
        *,
        epoch: int,
        writer: Writer,
        history: History | None = None,
    ) -> None:
        self.store = store
        self.writer = writer
        self.state = state
        self.history = history or History(store)
        self.epoch = epoch
        self._context = _NO_TURN
        self.scope = Scope()
        """What the session lends to its tools."""
        self.stragglers = Stragglers()
        """Runs tools, drivers and hooks, and knows which of them did not stop when they were told to."""
        self.broken: BaseException | None = None
        """Why nothing more can be recorded, once that is so."""
        self.now = now
        """The current time of this journal's clock."""
        self.reached: datetime | None = None
        """An instant that was waited out: it has come, whatever the wall clock says since."""
        self._held = FREE
        self._taken: list[int] = []
        self._entries: list[Entry] = []
        self._reserving: asyncio.Future[None] | None = None
        self._holding = False  # whether others are kept away
        self._left = False  # whether this writer let go of the session by itself
        self.answered: set[int] = set()
        """Numbers of the letters that were dealt with here."""
        self.posted: dict[str, str] = {}
        """Turns that are asked for in letters from here, and the ids of those letters."""
        self.fresh = False
        """Whether it was claimed and nobody has looked for letters since."""
        self._staged: list[Event] = []
        self._write: asyncio.Future[None] | None = None
        self._landing: dict[asyncio.Future[None], list[asyncio.Future[None]]] = {}
        """Who waits for which append."""
        self._published = state.sequence
        self._late: asyncio.TimerHandle | None = None
        self._owning: asyncio.Lock | None = None
        self.audience = Audience()
        self._derived: dict[Callable[[], Any], Any] = {}
        self.driver: asyncio.Future[None] | None = None
        """The task that is bringing a turn to rest here, while it does."""

    @property
    def running(self) -> TurnState:
        """The turn under way; asking without one is an error of the caller."""
        assert self.state.turn is not None, f"session {self.state.session_id} has no turn under way"
        return self.state.turn

    def present(self) -> datetime:
        """The time to decide by."""
        now = self.now()
        return now if self.reached is None else max(now, self.reached)

    @property
    def context(self) -> EventContext:
        """What events are stamped with: the turn under way, as the state tells it."""
        turn = self.state.turn
        if turn is None:
            return _NO_TURN
        if self._context.turn_id != turn.id:
            first = turn.inputs[0] if turn.inputs else ""
            self._context = EventContext(turn_id=turn.id, input_message_id=first)
        return self._context

    def derived(self, kind: Callable[[], T]) -> T:
        """The one `kind()` of this journal, kept to save work; dropped with the state, unless it is `lasting`."""
        found: T | None = self._derived.get(kind)
        if found is None:
            found = self._derived[kind] = kind()
        return found

    async def own(self) -> None:
        """Become the session's writer, if this journal is not: claim it, and take in what others wrote meanwhile.

        Raises `SessionHeld` while another process is at work on it, `UsageError` for a journal that may only read.
        """
        self._check_writer()
        if self._reserving is not None:
            await asyncio.wait([self._reserving])
        if self.ours:
            return
        self._owning = self._owning or asyncio.Lock()
        async with self._owning:
            await self._claim()

    def _check_writer(self) -> None:
        if self.writer.name == READER:
            raise UsageError(f"session {self.state.session_id} was opened read-only; open it to write")

    async def _claim(self) -> None:
        if self.ours:
            return
        if isinstance(self.broken, Superseded):
            await self._forget()
        elif self.broken is not None:
            raise self.broken
        self.epoch = await self._become_writer()
        if self.state.sequence < self._published:
            self.broken = StoreCorrupt(
                f"session {self.state.session_id} ends at event {self.state.sequence}, and {self._published} were on "
                "its log before: the database lost its end, as after a fail-over to a copy or an old backup. Open the "
                "session anew to go on from there"
            )
            raise self.broken
        self._published = self.state.sequence
        self.fresh = True
        left, self._left = self._left, False
        if self.writer.lease and not left and self.state.cut_off(self.now()):
            self.stage(TurnRecovered(attempt=self.running.recoveries + 1))

    async def _become_writer(self) -> int:
        """Claim the session and know all of its log. It is held only if something is owed soon."""
        while True:
            hold = self.writer.hold(self.state.due(), self.now())
            writer = Writer(name=self.writer.name, lease=hold)
            epoch = await claim(self.store, self.state.session_id, writer)
            await catch_up(self.state, self.store)
            if hold or not self.writer.hold(self.state.due(), self.now()):
                self._holding = hold > 0
                return epoch

    async def refresh(self) -> None:
        """Take in what others wrote, if this journal is not, or no more, the session's writer."""
        if self.ours and self._at_rest:
            head = await self.store.head(self.state.session_id)
            if head is not None and head.epoch > self.epoch != UNCLAIMED and self._at_rest:
                self.epoch = UNCLAIMED
        if not self.ours:
            if self.broken is None:
                await catch_up(self.state, self.store)
            else:
                await self.look()

    @property
    def _at_rest(self) -> bool:
        """Whether everything that was folded here is known to be on the log, and nobody drives a turn."""
        return self._published == self.state.sequence and self.broken is None and self.driver is None

    async def look(self) -> bool:
        """Own the session, or, while another process is at work on it, take in what was written there; which it was."""
        try:
            await self.own()
        except SessionHeld:
            await catch_up(self.state, self.store)
            return False
        return True

    @property
    def ours(self) -> bool:
        """Whether this journal is the session's writer, as far as it knows."""
        return self.epoch != UNCLAIMED and not isinstance(self.broken, Superseded)

    async def _forget(self) -> None:
        """What was folded here and refused there never happened. Whoever drives a turn by it stops first."""
        if self.driver is not None:
            self.driver.cancel()
            await asyncio.wait([self.driver])
        self.state = await self.history.load(self.state.session_id)
        self.epoch, self.broken, self._write = UNCLAIMED, None, None
        self._derived = {kind: it for kind, it in self._derived.items() if getattr(kind, "lasting", False)}
        for kept in (self._staged, self._taken, self._entries, self.answered):
            kept.clear()

    async def give_back(self) -> None:
        """Let go of the session. That it was claimed leaves no trace, unless more than that is staged."""
        if any(type(event.data) is not TurnRecovered for event in self._staged):
            await self.flush()
        await claim(self.store, self.state.session_id, structs.replace(self.writer, lease=0.0))
        await self._forget()

    def leave(self) -> bool:
        """Let go for as long as nothing is due, if that is longer than a lease; whether it is. `own` comes back."""
        if self.epoch == UNCLAIMED or self._staged or self._holding:
            return False
        self.epoch, self._left = UNCLAIMED, True
        return True

    def _terms(self) -> Terms:
        """What the next append says of the lease, of letters and of accounts."""
        self._held = self.writer.terms(self.state.due(), self.now, self._held)
        self._holding = self._held.hold > 0
        if not (self._taken or self._entries):
            return self._held
        taken, self._taken = tuple(self._taken), []
        entries, self._entries = tuple(self._entries), []
        return structs.replace(self._held, taken=taken, entries=entries)

    async def put_blob(self, data: bytes) -> str:
        """Keep these bytes, durably, for facts to refer to. Raises `UsageError` for a journal that may only read."""
        self._check_writer()
        return await self.store.put_blob(self.audience.blob(data))

    async def keep_state(self) -> None:
        """Keep a snapshot, if the session rests and it is worth the commit. Raises `StoreError` when the log breaks."""
        if self.broken is not None or not self.history.is_worth_keeping(self.state):
            return
        await self.flush()
        if not self._staged:
            await self.history.keep(self.state)

    def take(self, number: int) -> None:
        """What is recorded next answers this letter."""
        self.answered.add(number)
        self._taken.append(number)

    def enter(self, *entries: Entry) -> None:
        """What is recorded next changes accounts like this."""
        self._entries.extend(entries)

    async def reserve(self, fact: Fact, *entries: Entry) -> None:
        """Record the fact and these entries, or neither. Raises `AccountExceeded`: then nothing happened, and the
        journal goes on. Nobody else may stage anything until this returns; `own` waits for it."""
        await self.flush()
        self.stage(fact)
        self.enter(*entries)
        write = self._submit()
        if not write.done():
            self._reserving = write
        await self._landed(write)

    async def post(self, fact: Fact, context: EventContext | None = None) -> None:
        """Leave this fact for the session's writer to record, durably."""
        session_id = self.state.session_id
        (fact,) = self.audience.clean((fact,), session_id)
        letter = unplaced(fact, context or self.context, self.now(), session_id)
        await self.store.post(session_id, letter)
        if letter.context.turn_id and self.state.status_of(letter.context.turn_id) is None:
            self.posted[letter.context.turn_id] = letter.id

    def stage(self, *facts: Fact, context: EventContext | None = None) -> None:
        """Fold these facts now; they become durable in the same append as whatever is recorded next."""
        if self.broken is not None:
            raise self.broken
        if self.epoch == UNCLAIMED:
            raise UsageError(
                f"session {self.state.session_id} is not claimed; await journal.own() before writing"
            )
        if not facts:
            return
        now = self.now()
        for fact in self.audience.clean(facts, self.state.session_id):
            self._staged.append(extend(self.state, fact, context or self.context, now))

    async def record(
        self, *facts: Fact, context: EventContext | None = None, through: Transaction | None = None
    ) -> None:
        """Make these facts (and all staged ones) durable, then publish them.

        They are committed with what a tool did in `through`, a sealed transaction, where there is one.
        Raises `StoreError`; the journal is broken from then on. Cancelling the caller does not undo the append.
        """
        self.stage(*facts, context=context)
        if through is not None:
            self._submit(through)
        await self.flush()

    async def flush(self) -> None:
        """Make what is staged durable. Returns when all that was staged so far is, also what was under way already.

        Raises `StoreError` when it is not, or may not be.
        """
        if self.broken is not None:
            raise self.broken
        write = self._submit() if self._staged else self._write
        if write is not None:
            await self._landed(write)

    async def _landed(self, write: asyncio.Future[None]) -> None:
        """Wait for the append, which goes on when the waiting is cancelled. A shield would cost two more callbacks."""
        if not write.done():
            waiter = write.get_loop().create_future()
            self._landing.setdefault(write, []).append(waiter)
            await waiter
        elif error := write.exception():
            raise error

    def flush_within(self, seconds: float) -> None:
        """Make what is staged durable by then at the latest, unless a record takes it along before. Does not wait."""
        if self._late is None:
            self._late = asyncio.get_running_loop().call_later(seconds, self._submit_late)

    def _submit_late(self) -> None:
        self._late = None
        if self._staged and self.broken is None:
            self._submit()

    def _submit(self, through: Transaction | None = None) -> asyncio.Future[None]:
        events, self._staged = self._staged, []
        if self._late is not None:
            self._late.cancel()
            self._late = None
        try:
            write = (through or self.store).append(
                self.state.session_id,
                events,
                expected=events[0].sequence - 1,
                epoch=self.epoch,
                terms=self._terms(),
            )
        except BaseException as error:  # whatever it is, what is folded here is on no log
            self.broken = error
            self.audience.fail(error)
            raise
        self._write = write
        if write.done():
            self._finished(write, events)
            return write
        write.add_done_callback(lambda done: self._finished(done, events))
        return write

    def _finished(self, write: asyncio.Future[None], events: list[Event]) -> None:
        error = write.exception()
        for waiter in self._landing.pop(write, ()):
            if not waiter.done():
                waiter.set_exception(error) if error else waiter.set_result(None)
        if write is self._reserving:
            self._reserving = None
        if error is None:
            self._published = events[-1].sequence
            self.audience.put(events)
            return
        if isinstance(error, AccountExceeded) and not self._staged and take_back(self.state, events):
            self._write = None
            return
        self.broken = self.broken or error
        self.audience.fail(error)

    def publish(self, signal: Signal) -> None:
        """Show a signal to those who follow now."""
        self.audience.signal(signal, self.state.session_id)

    def follow(self, turn_id: str = "", *, after: int | None = None) -> Follower:
        """Every event above `after` (None: from now on), and signals; with `turn_id` those of that turn, to its end."""
        feed = self.audience.join(self._published)
        start = feed.count if after is None else after
        follower = Follower(feed, self._read, OfTurn(turn_id), after=start, last_of=turn_id)
        if self.broken is not None:
            follower.fail(self.broken)
        return follower

    async def _read(self, after: int, limit: int) -> list[Event]:
        return await self.store.read(self.state.session_id, after=after, limit=limit)
