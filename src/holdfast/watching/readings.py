"""How a subscription reads on: one session by its feed, many by the overview; either from the log where those end."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from holdfast.errors import CursorRefused, UnknownSession
from holdfast.events import TURN_ENDS, Event
from holdfast.follow import PAGE, Follower, Lagged, Signal
from holdfast.history import end_and_start
from holdfast.store import Head
from holdfast.watching.filters import Compiled, Cursor
from holdfast.watching.gallery import Gallery


class One:
    """One session."""

    def __init__(self, gallery: Gallery, follower: Follower, begun: Cursor, session_id: str) -> None:
        self._gallery = gallery
        self._follower = follower
        self._begun = begun
        self._session_id = session_id

    @classmethod
    async def begin(cls, gallery: Gallery, scope: Compiled, begun: Cursor, session_id: str, now: bool) -> One:
        feed = await gallery.feed(session_id)
        if feed is None:
            why = "this store has no session {}"
            if begun.places:
                raise CursorRefused(why.format(session_id) + "; this cursor is of another store", why="store")
            raise UnknownSession(why.format(session_id) + "; `holdfast sessions` lists those it has")
        after = feed.count if now else begun.places.get(session_id, 0)

        async def read_log(after: int, limit: int) -> list[Event]:
            return await gallery.store.read(session_id, after=after, limit=limit)

        follower = Follower(feed, read_log, scope, after=after, last_of=scope.turn, heeds=False)
        try:
            if now and await _is_over(scope, gallery, {session_id: after}):
                follower.close()
            if begun.places:
                _check_end(
                    session_id, after, await gallery.store.read(session_id, after=after - 1, limit=1), begun
                )
        except BaseException:
            follower.close()
            gallery.left(session_id)
            raise
        return cls(gallery, follower, begun, session_id)

    async def next(self) -> Event | Signal:
        return await anext(self._follower)

    def cursor(self) -> Cursor:
        return Cursor(
            digest=self._begun.digest,
            places={self._session_id: self._follower.sequence},
            last=self._follower.event_id or self._begun.last,
            over=self._begun.over or self._follower.closed,
        )

    def fail(self, error: BaseException) -> None:
        self._follower.fail(error)

    def close(self) -> None:
        self._follower.close()
        self._gallery.left(self._session_id)


async def _is_over(scope: Compiled, gallery: Gallery, places: Mapping[str, int]) -> bool:
    """Whether the one turn that is wanted, of sessions that are named, ended before these places."""
    for session_id in (scope.sessions or ()) if scope.turn else ():
        ended, _ = await end_and_start(scope.turn, session_id, gallery.store, places.get(session_id, 0))
        if ended is not None:
            return True
    return False


def _check_end(session_id: str, after: int, found: list[Event], begun: Cursor) -> None:
    """Raise `CursorRefused` unless the log holds the event at which the cursor stands."""
    if after > 0 and not found:
        raise _future(session_id, after)
    if begun.last and found and found[0].id != begun.last:
        raise CursorRefused(
            f"event {after} of {session_id} is not the one that this cursor came past: the log was written anew from "
            "an older backup, or is another store's; start again without a cursor",
            why="store",
        )


def _future(session_id: str, after: int) -> CursorRefused:
    return CursorRefused(
        f"this cursor came past event {after} of {session_id}, which its log does not have (yet): the database lost "
        "its end, as from an older backup, or the cursor is another store's; start again without one",
        why="future",
    )


class Many:
    """Some sessions, or all."""

    def __init__(self, gallery: Gallery, scope: Compiled, begun: Cursor) -> None:
        self._gallery = gallery
        self._overview = gallery.overview
        self._scope = scope
        self._over = begun.over
        self._places = dict(begun.places)
        self._wanted: dict[str, bool] = dict.fromkeys(begun.places, True)
        self._behind: deque[tuple[str, int]] = deque()
        """Sessions of which the log must be read, and up to where."""
        self._page: deque[Event] = deque()
        self._count = self._overview.count
        self._signal = self._overview.signalled
        self._error: BaseException | None = None
        self._closed = False

    @classmethod
    async def begin(cls, gallery: Gallery, scope: Compiled, begun: Cursor, now: bool) -> Many:
        await gallery.enter_overview()
        made = cls(gallery, scope, begun)
        try:
            heads = await gallery.heads()
            if now:
                made._places = {
                    head.session_id: head.sequence for head in heads if await made._wants(head.session_id)
                }
                made._over = await _is_over(scope, gallery, made._places)
            else:
                _check_heads(begun, heads)
                await made._catch_up(heads)
        except BaseException:
            gallery.leave_overview()
            raise
        return made

    async def next(self) -> Event | Signal:
        while not self._closed and not self._over:
            if self._page:
                if (event := self._come_past(self._page.popleft())) is not None:
                    return event
            elif self._behind:
                await self._read_log()
            elif (signal := self._next_signal()) is not None:
                return signal
            elif self._count < self._overview.count:
                await self._take()
            elif self._error is not None:
                raise self._error
            else:
                await self._overview.heard()
        raise StopAsyncIteration

    def cursor(self) -> Cursor:
        return Cursor(digest=self._scope.digest, places=self._places, over=self._over)

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._overview.ring()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._gallery.leave_overview()
            self._overview.ring()

    def _come_past(self, event: Event) -> Event | None:
        """The event, if it is wanted and new."""
        if event.sequence <= self._places.get(event.session_id, 0):
            return None
        self._places[event.session_id] = event.sequence
        if self._scope.turn and event.type in TURN_ENDS and event.context.turn_id == self._scope.turn:
            self._over = True
        return event if self._scope.event(event) else None

    async def _read_log(self) -> None:
        session_id, upto = self._behind[0]
        place = self._places.get(session_id, 0)
        page = await self._gallery.store.read(session_id, after=place, limit=PAGE) if place < upto else []
        self._page.extend(page)
        if not page:
            self._behind.popleft()

    async def _take(self) -> None:
        """The next event of the overview, or all that was missed there."""
        event, count = self._overview.event(self._count + 1), self._overview.count
        if event is None:
            await self._catch_up(await self._gallery.heads())
            self._count = count
            return
        session_id = event.session_id
        wanted = await self._wants(session_id)
        self._count += 1
        if wanted and event.sequence == self._places.get(session_id, 0) + 1:
            self._page.append(event)
        elif wanted and event.sequence > self._places.get(session_id, 0):
            self._behind.append((session_id, event.sequence))

    async def _catch_up(self, heads: list[Head]) -> None:
        """Note which of these sessions have more than this reader came past, the oldest session first."""
        behind = [head for head in heads if head.sequence > self._places.get(head.session_id, 0)]
        behind.sort(key=lambda head: (head.created_at, head.session_id))
        found = [(it.session_id, it.sequence) for it in behind if await self._wants(it.session_id)]
        self._behind.extend(found)

    async def _wants(self, session_id: str) -> bool:
        if session_id not in self._wanted:
            wanted = self._scope.of_session(session_id)
            if wanted and self._scope.asks_origin:
                first = await self._gallery.origin(session_id)
                wanted = first is not None and self._scope.made_with(first)
            self._wanted[session_id] = wanted
        return self._wanted[session_id]

    def _next_signal(self) -> Signal | None:
        overview = self._overview
        while self._signal < overview.signalled:
            oldest = overview.oldest_signal()
            came_after, session_id, signal = overview.signal_at(max(self._signal, oldest))
            if came_after > self._count:
                return None
            if self._signal < oldest:
                missed, self._signal = oldest - self._signal, oldest
                return Lagged(missed=missed, after=0)
            self._signal += 1
            if self._wanted.get(session_id) and self._scope.signal(signal):
                return signal
        return None


def _check_heads(begun: Cursor, heads: list[Head]) -> None:
    """Raise `CursorRefused` unless all that the cursor came past is in the store."""
    there = {head.session_id: head.sequence for head in heads}
    for session_id, place in begun.places.items():
        if session_id not in there:
            raise CursorRefused(
                f"this cursor came past events of {session_id}, which this store does not have; it is of another store",
                why="store",
            )
        if place > there[session_id]:
            raise _future(session_id, place)
