"""The gallery: where those who watch a runtime's sessions sit.

One feed for each session that is watched, one overview of all of them, and one task that looks at what other processes
wrote, for however many watch. What is written here reaches the feeds by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol
from weakref import WeakSet

from holdfast.errors import StoreClosed, StoreError
from holdfast.events import Event
from holdfast.follow import EVENTS, Feed
from holdfast.journal import Journal
from holdfast.store import Head, Store

LOOK = 0.02
"""Seconds between two looks at what others wrote, at least …"""
SHARE = 20
"""… and this many times what a look takes."""
SWEEP = 5.0
"""Seconds after which all sessions are looked at, and not only those that were written last by the clocks of those who
wrote them, which may be wrong."""
RECENT = 100
"""How many of those are looked at."""
FEW = 8
"""Sessions that are looked at one by one."""
ALL = 1 << 31

_log = logging.getLogger("holdfast.watching.gallery")


class Driven(Protocol):
    """Whatever has a session's journal."""

    journal: Journal


class Watcher(Protocol):
    """Somebody who sits here."""

    def fail(self, error: BaseException) -> None: ...


class Overview(Feed):
    """What was written to any session, in the order in which it came here."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, int] = {}
        """The newest event of each session that it took in, or that is older than it."""

    def put(self, events: Sequence[Event]) -> None:
        """Take in what was written to one log. What is known already is passed over."""
        session_id = events[0].session_id
        known = self.known.get(session_id, 0)
        if events[-1].sequence > known:
            self.known[session_id] = events[-1].sequence
            self.keep([event for event in events if event.sequence > known])


class Gallery:
    """Those who watch the sessions of one runtime, also those that other processes write."""

    def __init__(self, store: Store, driven: Mapping[str, Driven]) -> None:
        self.store = store
        self.overview = Overview()
        self._driven = driven
        """What drives the sessions that are driven here."""
        self._feeds: dict[str, Feed] = {}
        self._watchers: WeakSet[Watcher] = WeakSet()
        self._origins: dict[str, Event | None] = {}
        self._task: asyncio.Task[None] | None = None
        self._knowing: asyncio.Lock | None = None
        self._swept = 0.0

    def attach(self, journal: Journal) -> None:
        """What this journal records is seen here."""
        journal.audience.overview = self.overview
        if self._feeds:
            journal.audience.feed = self._feeds.get(journal.state.session_id)

    def seat(self, watcher: Watcher) -> None:
        """Somebody came."""
        self._watchers.add(watcher)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look_out())

    async def feed(self, session_id: str) -> Feed | None:
        """The feed of this session, entered; None when there is no such session."""
        driven = self._driven.get(session_id)
        audience = driven.journal.audience if driven is not None else None
        feed = self._feeds.get(session_id) or (audience and audience.feed) or Feed()
        self._feeds[session_id] = feed
        if audience is not None:
            audience.feed = feed
        feed.enter(feed.count)  # first, so that nothing is missed that is written while the store is asked
        found = False
        try:
            head = await self.store.head(session_id)
            found = head is not None or audience is not None
        finally:
            if not found:
                feed.leave()
                self.left(session_id)
        feed.reach(head.sequence if head else 0)
        return feed if found else None

    def left(self, session_id: str) -> None:
        """Somebody who watched this session went."""
        feed = self._feeds.get(session_id)
        if feed is not None and not feed.readers:
            del self._feeds[session_id]

    async def enter_overview(self) -> None:
        """Sit down before the overview."""
        self.overview.enter(self.overview.count)
        self._knowing = self._knowing or asyncio.Lock()
        try:
            async with self._knowing:
                if self.overview.readers == 1 or not self.overview.known:
                    await self._know()
        except BaseException:
            self.leave_overview()
            raise

    async def _know(self) -> None:
        known = self.overview.known
        for head in await self.heads():
            known[head.session_id] = max(known.get(head.session_id, 0), head.sequence)

    def leave_overview(self) -> None:
        """Get up from the overview."""
        self.overview.leave()
        if not self.overview.readers:
            self.overview.known.clear()
            self._origins.clear()

    async def heads(self) -> list[Head]:
        """Where all sessions stand, at one moment."""
        return await self.store.sessions(limit=ALL)

    async def origin(self, session_id: str) -> Event | None:
        """The first event of this session."""
        if session_id not in self._origins:
            first = await self.store.read(session_id, limit=1)
            if not first:
                return None
            self._origins[session_id] = first[0]
        return self._origins[session_id]

    async def close(self, error: BaseException) -> None:
        """Send everybody home, and say why."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for watcher in list(self._watchers):
            watcher.fail(error)

    async def _look_out(self) -> None:
        now = asyncio.get_running_loop().time
        seen: int | None = None
        while self._feeds or self.overview.readers or len(self._watchers):
            began = now()
            try:
                seen = await self.store.woken(SWEEP if seen is not None else 0, seen)
                began = now()
                await self._take_in(now())
            except StoreClosed:
                return
            except StoreError as error:
                _log.warning("what other processes write cannot be seen at the moment: %s", error)
                await asyncio.sleep(1.0)
                continue
            await asyncio.sleep(max(LOOK, SHARE * (now() - began)))

    async def _take_in(self, now: float) -> None:
        """Put what others wrote into the feeds."""
        for head in await self._changed(now):
            if (feed := self._feeds.get(head.session_id)) and head.sequence > feed.count:
                await self._fetch(feed, head, feed.count)
            known = self.overview.known
            if self.overview.readers and head.sequence > known.get(head.session_id, 0):
                await self._fetch(self.overview, head, known.get(head.session_id, 0))

    async def _fetch(self, feed: Feed, head: Head, after: int) -> None:
        """The newest of these events; those who need older ones read the log."""
        after = max(after, head.sequence - EVENTS)
        events = await self.store.read(head.session_id, after=after, limit=EVENTS)
        if events:
            feed.put(events)

    async def _changed(self, now: float) -> list[Head]:
        """The sessions that others may have written to."""
        if not self.overview.readers and len(self._feeds) <= FEW:
            found = [await self.store.head(session_id) for session_id in tuple(self._feeds)]
            return [head for head in found if head is not None]
        if now - self._swept < SWEEP:
            recent = await self.store.sessions(limit=RECENT)
            if len(recent) < RECENT or not all(self._is_news(head) for head in recent):
                return recent
        self._swept = now
        return await self.heads()

    def _is_news(self, head: Head) -> bool:
        feed = self._feeds.get(head.session_id)
        known = self.overview.known.get(head.session_id, 0) if self.overview.readers else head.sequence
        return head.sequence > (feed.count if feed is not None else known)
