"""The one connection that appends to a Postgres store.

Appends queue up while a transaction is under way; the next one takes all of them (at most 512), in one round trip, so
that however many sessions are active, they share commits, and each session's appends stay in their order. What is
refused fails alone.

When the connection breaks before the answer is there, the append may have happened or not. It is then sent again,
marked as such: it finds its own events and went well, or its expected sequence still holds and it happens now, or
somebody else's events are there and it is refused. Nothing is guessed. Only when the server stays away for longer
than `patience` does the caller learn that the outcome is unknown; when nothing was ever sent, that nothing happened.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Event, Future, Task
from collections import deque
from typing import Any, NamedTuple, Protocol

from holdfast.errors import AccountExceeded, HoldfastError, OutcomeUnknown, SequenceConflict
from holdfast.store import Entry
from holdfast.stores.accept import FIRST_EPOCH, refusal
from holdfast.stores.postgres_accounts import columns, reason_in
from holdfast.stores.postgres_server import (
    PAUSES,
    PostgresServer,
    Queries,
    is_away,
    is_elsewhere,
    queries,
    worth_another_try,
)

SHARED = 512
"""Appends that may share a commit."""

SHARED_BYTES = 8 << 20
"""Bytes of events after which no further append joins a commit."""

FARTHEST = (1 << 63) - 1
"""No sequence and no epoch gets this far."""


class Appending(NamedTuple):
    """One append as the server gets it. `key` is the session's id as its row has it."""

    key: str
    session_id: str
    expected: int
    epoch: int
    bodies: list[bytes]
    created: int
    updated: int
    owner: str
    hold: float | None
    due: int | None
    taken: list[int]
    entries: tuple[Entry, ...] = ()


class Committing(Protocol):
    """A transaction of somebody else, which an append ends, in its order."""

    async def commit(self, statement: str, arguments: tuple[Any, ...]) -> list[Any]:
        """Append and commit; the rows say why it was refused. Raises what went wrong: then nothing was kept."""
        ...


class PostgresWriter:
    """Carries out appends in the order they were submitted. Begins at once, on the loop that is running."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._sql = queries(server.schema)
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._queue: deque[_Work] = deque()
        self._called = Event()
        self._ending = False
        self._connection: Any = None
        self._task: Task[None] = self._loop.create_task(self._run(), name="holdfast-postgres-writer")

    def submit(self, append: Appending, within: Committing | None = None) -> Future[None]:
        """Carry it out, perhaps within a transaction. The future ends when it is durable, or with why it is not."""
        work = _Work(append, self._loop.create_future(), self._loop.time() + self._server.patience, within)
        self._queue.append(work)
        self._called.set()
        return work.future

    async def finish(self) -> None:
        """Wait until everything submitted has its answer, and close the connection."""
        self._ending = True
        self._called.set()
        await asyncio.shield(self._task)

    async def _run(self) -> None:
        try:
            while batch := await self._next():
                if (within := batch[0].within) is not None:
                    await self._conclude(within, batch[0])
                else:
                    await self._carry_out(batch)
        finally:
            await self._let_go()

    async def _next(self) -> list[_Work]:
        """What shares the next commit, in the order of the sessions' ids; nothing when it is time to end.

        What belongs into a transaction of somebody else comes by itself, and so does what changes accounts.
        """
        while not self._queue and not self._ending:
            self._called.clear()
            await self._called.wait()
        batch: list[_Work] = []
        size = 0
        while self._queue and len(batch) < SHARED and size < SHARED_BYTES:
            if batch and (batch[0].alone or self._queue[0].alone):
                break
            work = self._queue.popleft()
            size += work.size
            batch.append(work)
        batch.sort(key=_key)
        return batch

    async def _conclude(self, within: Committing, work: _Work) -> None:
        try:
            refused = await within.commit(*_asked(self._sql, [work]))
        except Exception as error:
            if refusing := reason_in(error):
                work.refused(refusing)
            else:
                work.fail(error if isinstance(error, HoldfastError) else self._meaning(work, error))
        else:
            work.refuse(*refused[0][1:]) if refused else work.succeed()

    async def _carry_out(self, batch: list[_Work]) -> None:
        """Try until every piece of work has its answer."""
        pause = PAUSES[0]
        while batch:
            try:
                await self._attempt(batch)
                return
            except Exception as error:
                if worth_another_try(error):
                    batch = self._give_up_on_the_late(batch, error)
                elif len(batch) > 1:
                    await self._carry_out_singly(batch, error)
                    return
                else:
                    batch[0].fail(self._meaning(batch[0], error))
                    return
            if batch:
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSES[1])

    async def _carry_out_singly(self, batch: list[_Work], error: Exception) -> None:
        """What failed a batch was perhaps the fault of one: each by itself, as long as it may wait."""
        for work in batch:
            if self._loop.time() < work.deadline:
                await self._carry_out([work])
            else:
                work.fail(self._meaning(work, error))

    async def _attempt(self, batch: list[_Work]) -> None:
        """Send the batch once and answer it. Raises what went wrong when there is no answer."""
        statement, arguments = _asked(self._sql, batch)
        connection = await self._connected()
        try:
            refused = await connection.fetch(statement, *arguments, timeout=self._server.patience / 2)
        except BaseException as error:
            if refused := reason_in(error):
                batch[0].refused(refused)
                return
            if not isinstance(error, Exception) or is_away(error):
                for work in batch:
                    work.unsure = True
                connection.terminate()
            elif is_elsewhere(error):
                connection.terminate()
            raise
        reasons = {item: (sequence, epoch) for item, sequence, epoch in refused}
        for item, work in enumerate(batch, 1):
            if item in reasons:
                work.refuse(*reasons[item])
            else:
                work.succeed()

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            self._connection = await self._server.connect()
        return self._connection

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=1.0)
            except Exception:  # it was on its way out anyway
                connection.terminate()

    def _give_up_on_the_late(self, batch: list[_Work], error: Exception) -> list[_Work]:
        """Answer those that waited for long enough; the others."""
        now = self._loop.time()
        for work in batch:
            if now >= work.deadline:
                work.fail(self._meaning(work, error))
        return [work for work in batch if now < work.deadline]

    def _meaning(self, work: _Work, error: Exception) -> HoldfastError:
        meaning = self._server.explain(error)
        if not work.unsure:
            return type(meaning)(f"{meaning}; nothing was written to {work.append.session_id}")
        return OutcomeUnknown(
            f"{self._server} did not answer an append to {work.append.session_id} after {work.append.expected} and "
            f"then failed ({meaning}); whether it happened shows when the log can be read again"
        )


class _Work:
    """An append, who waits for it, and until when (by the loop's clock)."""

    __slots__ = ("alone", "append", "deadline", "future", "size", "unsure", "within")

    def __init__(
        self, append: Appending, future: Future[None], deadline: float, within: Committing | None = None
    ) -> None:
        self.within = within
        self.append = append
        self.future = future
        self.deadline = deadline
        self.size = sum(map(len, append.bodies))
        self.alone = within is not None or bool(append.entries)
        """It shares its transaction with no other append."""
        self.unsure = False
        """It was sent, and no answer came: it may have happened."""

    def succeed(self) -> None:
        if not self.future.done():  # else whoever waited was cancelled; what happened, happened
            self.future.set_result(None)

    def fail(self, error: HoldfastError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def refused(self, why: AccountExceeded | tuple[int | None, int | None]) -> None:
        if isinstance(why, AccountExceeded):
            self.fail(why)
        else:
            self.refuse(*why)

    def refuse(self, sequence: int | None, epoch: int | None) -> None:
        asked, current, end = self.append, epoch or FIRST_EPOCH, sequence or 0
        if asked.epoch == current and end < asked.expected:
            self.fail(
                SequenceConflict(
                    f"{asked.session_id} ends at event {end}, not {asked.expected}, which was never written or is "
                    "gone, as after a fail-over to a replica that lagged behind; read the log again"
                )
            )
            return
        self.fail(
            refusal(
                asked.session_id, sequence=end, current=current, expected=asked.expected, epoch=asked.epoch
            )
        )


def _key(work: _Work) -> str:
    return work.append.key


def _asked(sql: Queries, batch: list[_Work]) -> tuple[str, tuple[Any, ...]]:
    """The statement that carries the batch out, and its arguments."""
    if entries := batch[0].append.entries:
        return sql.append_and_enter, (*_arguments(batch), *_letters(batch), *columns(entries))
    if any(work.append.taken for work in batch):
        return sql.append_and_take, (*_arguments(batch), *_letters(batch))
    return sql.append, _arguments(batch)


def _arguments(batch: list[_Work]) -> tuple[list[Any], ...]:
    """The columns that the append statement takes: ten with a row for each append, three with one for each event."""
    rows = []
    events = []
    for item, work in enumerate(batch, 1):
        key, _, expected, epoch, bodies, created, updated, owner, hold, due, _, _ = work.append
        first = min(expected, FARTHEST - len(bodies))
        rows.append(
            (
                key,
                first,
                min(epoch, FARTHEST),
                first + len(bodies),
                created,
                updated,
                owner,
                hold,
                due,
                work.unsure,
            )
        )
        events += [(item, sequence, body) for sequence, body in enumerate(bodies, first + 1)]
    return (*map(list, zip(*rows, strict=True)), *map(list, zip(*events, strict=True)))


def _letters(batch: list[_Work]) -> tuple[list[int], list[int]]:
    """The columns that say which append takes which letter."""
    pairs = [(item, number) for item, work in enumerate(batch, 1) for number in work.append.taken]
    return [item for item, _ in pairs], [number for _, number in pairs]
