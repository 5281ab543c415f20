"""The store that keeps everything in this process, for as long as it lives."""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from holdfast.errors import UnknownBlob
from holdfast.events import Event, encode_event
from holdfast.store import FREE, Account, Entry, Head, Letter, Listing, Snapshot, Terms, digest_of
from holdfast.stores.accept import (
    FIRST_EPOCH,
    check_account,
    check_alone,
    check_events,
    check_instant,
    check_lease,
    check_letter,
    check_raise,
    check_terms,
    closed,
    held,
    refusal,
    stale,
    unknown,
)
from holdfast.stores.accounts import Accounts
from holdfast.stores.bell import Bell
from holdfast.stores.roster import row_of

_LAST = datetime.max.replace(tzinfo=UTC)


class MemoryStore:
    """Logs, letters, blobs, leases and snapshots in memory: `Store` for tests and for sessions nobody needs tomorrow.

    It keeps the very `Event` objects it is given, and an append is over when the call returns. It still encodes
    every event once, into a scratch buffer (0.35 µs an event), so that what another store could not write is
    refused here too. Closing keeps the content; opening the same object again finds it.

    Leases run on the event loop's `time()`, which a virtual loop makes virtual. On another loop, whose time may begin
    anew, they run on from where they were.
    """

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._busy: dict[str, _Log] = {}  # those that may be held or due
        self._mailed: dict[str, _Log] = {}  # those with letters
        self._posts = 0
        self._blobs: dict[str, bytes] = {}
        self._pages = Accounts()
        self._roster: dict[tuple[str, str], Listing] = {}
        self._done: Future[None] | None = None
        self._encode_into = msgspec.json.Encoder().encode_into
        self._scratch = bytearray()
        self._bell = Bell()
        self._checked = FREE
        self._writes = 0
        self._time = time.monotonic
        self._ahead = 0.0

    async def open(self) -> None:
        """Make ready. Opening an open store is fine."""
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        self._done.set_result(None)
        self._time = loop.time
        latest = max([log.since for log in self._busy.values()], default=0.0)
        self._ahead += max(latest - self._now(), 0.0)

    async def close(self) -> None:
        """Take no more. The content stays with this object."""
        self._done = None
        self._bell.ring()

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """See `Store.append`. The future has already ended; appends that went well all share one."""
        done = self._ready()
        check_events(session_id, events, expected)
        if terms is not self._checked:
            check_terms(terms)
            self._checked = terms
        self._check_encodable(events)
        log = self._logs.get(session_id)
        if log is None:
            log = _Log(len(self._logs))
        if log.epoch != epoch or len(log.events) != expected:
            return _refused(done, _refusal(session_id, log, expected, epoch))
        if terms.entries and (too_much := self._pages.enter(terms.entries)):
            return _refused(done, too_much)
        if not expected:
            self._logs[session_id] = log
        log.events.extend(events)
        if terms.taken:
            self._take(session_id, log, terms.taken)
        if terms is not FREE:
            log.terms, log.since = terms, self._time() + self._ahead
            self._busy[session_id] = log
        elif log.terms is not FREE:
            log.terms = FREE
            self._busy.pop(session_id, None)
        self._writes += 1
        if self._bell.waiting:
            self._bell.ring()
        return done

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        """See `Store.read`."""
        self._ready()
        log = self._logs.get(session_id)
        start = max(after, 0)
        return log.events[start : start + max(limit, 0)] if log else []

    async def head(self, session_id: str) -> Head | None:
        """See `Store.head`."""
        self._ready()
        log = self._logs.get(session_id)
        return log.head() if log else None

    async def claim(self, session_id: str, *, owner: str = "", hold: float = 0.0) -> int:
        """See `Store.claim`."""
        self._ready()
        check_lease(owner, hold)
        log = self._logs.get(session_id)
        if log is None:
            raise unknown(session_id)
        left = self._left(log)
        if left > 0 and log.terms.owner != owner:
            raise held(session_id, log.terms.owner, left)
        log.epoch += 1
        self._hold(session_id, log, owner, hold)
        return log.epoch

    async def renew(self, owner: str, hold: float) -> None:
        """See `Store.renew`."""
        self._ready()
        check_lease(owner, hold)
        for session_id, log in self._busy.items():
            if log.terms.owner == owner and self._left(log) > 0:
                self._hold(session_id, log, owner, hold)
        self._writes += 1
        self._bell.ring()

    async def due(self, now: datetime, *, limit: int = 100) -> list[str]:
        """See `Store.due`."""
        self._ready()
        check_instant(now)
        free = {**self._busy, **self._mailed}
        found = [
            (log.terms.due or _LAST, log.number, session_id)
            for session_id, log in free.items()
            if (log.letters or (log.terms.due is not None and log.terms.due <= now)) and self._left(log) <= 0
        ]
        found.sort()
        return [session_id for _, _, session_id in found[: max(limit, 0)]]

    async def post(self, session_id: str, event: Event) -> None:
        """See `Store.post`."""
        self._ready()
        check_letter(session_id, event)
        self._check_encodable((event,))
        log = self._logs.get(session_id)
        if log is None:
            raise unknown(session_id)
        self._posts += 1
        log.letters.append(Letter(number=self._posts, event=event))
        self._mailed[session_id] = log
        self._writes += 1
        self._bell.ring()

    async def letters(self, session_id: str) -> list[Letter]:
        """See `Store.letters`."""
        self._ready()
        log = self._logs.get(session_id)
        return list(log.letters) if log else []

    async def posted(self, owner: str) -> list[str]:
        """See `Store.posted`."""
        self._ready()
        return [
            name for name, log in self._mailed.items() if log.terms.owner == owner or self._left(log) <= 0
        ]

    async def discard(self, session_id: str, numbers: Sequence[int], *, epoch: int) -> None:
        """See `Store.discard`."""
        self._ready()
        log = self._logs.get(session_id)
        if log is None:
            raise unknown(session_id)
        if log.epoch != epoch:
            raise stale(session_id, current=log.epoch, epoch=epoch)
        self._take(session_id, log, numbers)

    def _take(self, session_id: str, log: _Log, numbers: Sequence[int]) -> None:
        log.letters = [letter for letter in log.letters if letter.number not in numbers]
        if not log.letters:
            self._mailed.pop(session_id, None)

    async def woken(self, seconds: float, since: int | None = None) -> int:
        """See `Store.woken`."""
        self._ready()
        if since is None or since == self._writes:
            await self._bell.heard(seconds)
        return self._writes

    async def owners(self) -> list[str]:
        """See `Store.owners`."""
        self._ready()
        return list({log.terms.owner for log in self._busy.values() if self._left(log) > 0} - {""})

    async def save_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
        """See `Store.save_snapshot`."""
        self._ready()
        log = self._logs.get(session_id)
        if log and (log.snapshot is None or log.snapshot.sequence <= snapshot.sequence):
            log.snapshot = snapshot

    async def load_snapshot(self, session_id: str) -> Snapshot | None:
        """See `Store.load_snapshot`."""
        self._ready()
        log = self._logs.get(session_id)
        return log.snapshot if log else None

    async def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """See `Store.sessions`. Of two written at the same instant, the one created later comes first."""
        self._ready()
        start = max(offset, 0)
        logs = list(self._logs.values())[::-1]
        logs.sort(key=_Log.updated_at, reverse=True)
        return [log.head() for log in logs[start : start + max(limit, 0)]]

    async def put_blob(self, data: bytes) -> str:
        """See `Store.put_blob`."""
        self._ready()
        digest = digest_of(data)
        self._blobs.setdefault(digest, bytes(data))
        return digest

    async def get_blob(self, digest: str) -> bytes:
        """See `Store.get_blob`."""
        self._ready()
        try:
            return self._blobs[digest]
        except KeyError:
            raise UnknownBlob(f"no blob {digest!r} in this store") from None

    async def account(self, name: str) -> Account:
        """See `Accounting.account`."""
        self._ready()
        check_account(name)
        return self._pages.account(name)

    async def accounts(self, prefix: str = "", *, limit: int = 1_000) -> list[Account]:
        """See `Accounting.accounts`."""
        self._ready()
        return self._pages.accounts(prefix, max(limit, 0))

    async def holding(self, prefix: str, *, after: str = "", limit: int = 1_000) -> list[Account]:
        """See `Accounting.holding`."""
        self._ready()
        return self._pages.holding(prefix, after, max(limit, 0))

    async def enter(self, entries: Sequence[Entry]) -> None:
        """See `Accounting.enter`."""
        self._ready()
        check_alone(entries)
        if refused := self._pages.enter(entries):
            raise refused

    async def raise_account(self, name: str, amount: Decimal) -> Account:
        """See `Accounting.raise_account`."""
        self._ready()
        check_raise(name, amount)
        return self._pages.raise_account(name, amount)

    async def enlist(self, listing: Listing) -> bool:
        """See `Rostering.enlist`."""
        self._ready()
        kind, name, *_ = row_of(listing)
        before = self._roster.get((kind, name))
        if before is not None and before.status == "deleted":
            return False
        self._roster[kind, name] = listing
        return True

    async def roster(self) -> list[Listing]:
        """See `Rostering.roster`."""
        self._ready()
        return [listing for _, listing in sorted(self._roster.items())] if self._roster else []

    def _ready(self) -> Future[None]:
        if self._done is None:
            raise closed()
        return self._done

    def _now(self) -> float:
        """Seconds that never go back, whichever loop this is open on."""
        return self._time() + self._ahead

    def _left(self, log: _Log) -> float:
        """Seconds for which somebody still holds it; 0 or less when nobody does."""
        return log.since + log.terms.hold - self._now()

    def _hold(self, session_id: str, log: _Log, owner: str, hold: float) -> None:
        log.terms, log.since = Terms(owner=owner, hold=hold, due=log.terms.due), self._now()
        self._busy[session_id] = log

    def _check_encodable(self, events: Sequence[Event]) -> None:
        encode_into, scratch = self._encode_into, self._scratch
        for event in events:
            try:
                encode_into(event, scratch)
            except (ValueError, TypeError, RecursionError):
                encode_event(event)  # says it the way every store does
                raise


class _Log:
    """One session: its events, the epoch of its writer, and what that writer said."""

    __slots__ = ("epoch", "events", "letters", "number", "since", "snapshot", "terms")

    def __init__(self, number: int) -> None:
        self.number = number
        self.events: list[Event] = []
        self.epoch = FIRST_EPOCH
        self.terms = FREE
        self.since = 0.0  # the moment from which the lease in its terms runs
        self.letters: list[Letter] = []
        self.snapshot: Snapshot | None = None

    def updated_at(self) -> datetime:
        return self.events[-1].ts

    def head(self) -> Head:
        first, last = self.events[0], self.events[-1]
        return Head(
            session_id=first.session_id,
            sequence=last.sequence,
            epoch=self.epoch,
            created_at=first.ts,
            updated_at=last.ts,
        )


def _refused(done: Future[None], why: Exception) -> Future[None]:
    future: Future[None] = done.get_loop().create_future()
    future.set_exception(why)
    return future


def _refusal(session_id: str, log: _Log, expected: int, epoch: int) -> Exception:
    return refusal(session_id, sequence=len(log.events), current=log.epoch, expected=expected, epoch=epoch)
