"""A store looked through by what every store can be asked for, and changed in nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from holdfast import Event, Store
from holdfast.archive import blobs_of
from holdfast.errors import StoreCorrupt, UnknownBlob
from holdfast.fold import fold
from holdfast.history import problem_with
from holdfast.testing import problems_in

PAGE = 1_000
MANY = 1_000_000
"""More than the sessions that are due."""


class Finding(Struct, frozen=True, kw_only=True):
    """Something that was found."""

    kind: Literal["damage", "gap", "event", "chain", "letter", "blob", "lease", "snapshot", "account", "log"]
    """As in `holdfast.store.Problem`; `log`: events that contradict each other."""
    where: str
    message: str


async def sessions_of(store: Store) -> AsyncIterator[tuple[str, int]]:
    """Every session and its last event's number, a page at a time. One that moves meanwhile comes once."""
    seen: set[str] = set()
    offset = 0
    while heads := await store.sessions(limit=PAGE, offset=offset):
        for head in heads:
            if head.session_id not in seen:
                yield head.session_id, head.sequence
        seen.update(head.session_id for head in heads)
        offset += len(heads)


class Survey:
    """Looks through the sessions of a store, one after another. A blob is read once, and not when it is `known` to be
    damaged."""

    def __init__(self, store: Store, known: Iterable[str] = ()) -> None:
        self._store = store
        self._blobs = set(known)
        self._owed: dict[str, datetime] = {}

    async def session(self, session_id: str, last: int) -> list[Finding]:
        """What is wrong with one session: with its events up to `last`, and with whatever belongs to it."""
        events, found = await self._events(session_id, last)
        if not found:
            found = self.log(session_id, events)
        for event in events:
            found += [it for digest in blobs_of(event) for it in await self._blob(digest, event)]
        return (
            found
            + await self._letters(session_id)
            + await self._snapshot(session_id, [] if found else events)
        )

    async def _events(self, session_id: str, last: int) -> tuple[list[Event], list[Finding]]:
        events: list[Event] = []
        found: list[Finding] = []
        after = 0
        while after < last:
            page, problem = await self._page(session_id, after, last)
            if [it.message for it in problem] != [it.message for it in found[-1:]]:
                found += problem  # else the event before this one is missing, which was told
            for event in page:
                found += _misplaced(session_id, event, after)
                after = max(after + 1, event.sequence)
            if not page:
                after = after + 1 if problem else last
                if not problem:
                    found.append(_gap(session_id, len(events) and events[-1].sequence, last))
            events += page
        return events, found

    async def _page(self, session_id: str, after: int, last: int) -> tuple[list[Event], list[Finding]]:
        """Events above this one; none, and why, when the very next one cannot be read."""
        for limit in (min(PAGE, last - after), 1):
            try:
                return await self._store.read(session_id, after=after, limit=limit), []
            except StoreCorrupt as error:
                message = str(error)
        return [], [Finding(kind="event", where=f"{session_id}:{after + 1}", message=message)]

    def log(self, session_id: str, events: list[Event]) -> list[Finding]:
        """What is wrong with one session's events, each of which can be read."""
        try:
            state = fold(session_id, events)
            due = state.due()
            if due is not None:
                self._owed[session_id] = due
            said = problems_in(events, at_rest=state.turn is None and due is None, transcript=False)
        except Exception as error:  # whatever the rules stumble over, this session cannot be opened
            said = [f"its events do not make a session ({error!r})"]
        return [Finding(kind="log", where=session_id, message=message) for message in said]

    async def _blob(self, digest: str, event: Event) -> list[Finding]:
        if digest in self._blobs:
            return []
        self._blobs.add(digest)
        try:
            await self._store.get_blob(digest)
        except (UnknownBlob, StoreCorrupt) as error:
            by = f"event {event.sequence} of {event.session_id} needs it"
            return [Finding(kind="blob", where=digest, message=f"{error} ({by})")]
        return []

    async def _letters(self, session_id: str) -> list[Finding]:
        where = f"{session_id}:letter"
        try:
            letters = await self._store.letters(session_id)
        except StoreCorrupt as error:
            message = f"{error}; whoever left it must say it again"
            return [Finding(kind="letter", where=where, message=message)]
        return [
            Finding(
                kind="letter",
                where=f"{where} {letter.number}",
                message=f"says it is event {letter.event.sequence} of {letter.event.session_id}; delete it",
            )
            for letter in letters
            if letter.event.sequence != 0 or letter.event.session_id != session_id
        ]

    async def _snapshot(self, session_id: str, events: list[Event]) -> list[Finding]:
        """What is wrong with the session's snapshot; it is held against these events, where they reach so far."""
        snapshot, head = await self._store.load_snapshot(session_id), await self._store.head(session_id)
        if snapshot is None or head is None:
            return []
        upto, message = snapshot.sequence, ""
        if upto > head.sequence:
            message = f"a snapshot of event {upto}, which is not there; delete the snapshot"
        elif upto <= len(events) and (wrong := problem_with(snapshot, fold(session_id, events[:upto]))):
            message = f"its snapshot of event {upto} is wrong: {wrong}; delete the snapshot"
        return [Finding(kind="snapshot", where=session_id, message=message)] if message else []

    async def leases(self) -> list[Finding]:
        """Sessions that owe something and that no worker may take up."""
        now = datetime.now(UTC)
        free = set(await self._store.due(now, limit=MANY))
        message = (
            "something is owed, and no worker may take it up: a process is at work on it, or was when it died (its "
            "lease runs out by itself), or it was imported and not opened yet"
        )
        held = [it for it, due in self._owed.items() if due <= now and it not in free]
        return [Finding(kind="lease", where=it, message=message) for it in held]


def _misplaced(session_id: str, event: Event, after: int) -> list[Finding]:
    found = [_gap(session_id, after, event.sequence - 1)] if event.sequence > after + 1 else []
    if event.sequence <= after or event.session_id != session_id:
        where = f"{session_id}:{after + 1}"
        message = f"says it is event {event.sequence} of {event.session_id}; restore a backup"
        found.append(Finding(kind="event", where=where, message=message))
    return found


def _gap(session_id: str, end: int, last: int) -> Finding:
    """Events after `end` and up to `last` are not there."""
    where = f"{session_id}:{end + 1}" + (f"-{last}" if last > end + 1 else "")
    return Finding(kind="gap", where=where, message="missing; restore a backup")
