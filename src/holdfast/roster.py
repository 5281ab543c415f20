"""The roster: agents and harnesses that are out of use, and the sessions that depend on them.

Whoever archives or deletes one writes it into the store. Every runtime that is at work looks there a few times a second
and keeps what it found, so that asking costs nothing while nobody was put out of use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime

from holdfast.errors import AgentUnavailable, StoreError, UsageError
from holdfast.facts.fact import Failure
from holdfast.services import Key, Scope
from holdfast.store import Listing, Rostering, Store, rostering_of

FRESH = 0.4
"""Seconds for which what was found is good."""


class Roster:
    """What became of the agents and harnesses of one store, as this runtime last saw it."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._kept = isinstance(store, Rostering)
        self._until = float("-inf")
        self.closed: dict[str, Listing] = {}
        """Those that are out of use, by kind and name: `agent refunds`."""

    async def fresh(self) -> None:
        """Look again, unless that was done a moment ago."""
        if self._kept and asyncio.get_running_loop().time() >= self._until:
            await self.look()

    async def look(self) -> None:
        """Look at the store now. What cannot be read stays as it was: whoever needs the store will be told."""
        with suppress(StoreError):
            found = await rostering_of(self._store).roster()
            self.closed = {f"{it.kind} {it.name}": it for it in found if it.status != "active"}
        self._until = asyncio.get_running_loop().time() + FRESH

    async def all(self) -> list[Listing]:
        """Every listing, by kind and name. Raises `RosterUnsupported`, `StoreError`."""
        return await rostering_of(self._store).roster()

    async def enlist(self, listing: Listing) -> None:
        """Write it down. Raises `UsageError` for what was deleted, `RosterUnsupported`, `StoreError`."""
        if not await rostering_of(self._store).enlist(listing):
            raise UsageError(
                f"{listing.kind} {listing.name!r} was deleted, which is for good; give a new one another name"
            )
        await self.look()


class Dependencies:
    """What one session stands on."""

    def __init__(self, roster: Roster, names: Iterable[str]) -> None:
        self.roster = roster
        self._names = tuple(dict.fromkeys(names))

    @property
    def blocker(self) -> Listing | None:
        """What of it is out of use, if anything is: the ground before what stands on it."""
        closed = self.roster.closed
        return next((closed[name] for name in self._names if name in closed), None) if closed else None

    async def check(self) -> None:
        """Raise `AgentUnavailable` when anything is out of use."""
        await self.roster.fresh()
        if (found := self.blocker) is not None:
            raise AgentUnavailable(f"{said_of(found)}, so nothing new is taken; {_HOW}", found)


DEPENDENCIES: Key[Dependencies] = Key("dependencies")


def blocker_in(scope: Scope) -> Listing | None:
    """What a session with this scope depends on and is out of use, if anything is."""
    return scope[DEPENDENCIES].blocker if DEPENDENCIES in scope else None


_HOW = (
    "bring it back (runtime.restore, or `holdfast agents --restore NAME`) or begin a session with another one"
)


def said_of(listing: Listing) -> str:
    """What became of it, for a person: `agent 'refunds' was archived by ann (moved to the new desk)`."""
    who = f" by {listing.by}" if listing.by else ""
    why = f" ({listing.reason})" if listing.reason else ""
    return f"{listing.kind} {listing.name!r} was {listing.status}{who}{why}"


def blocked(listing: Listing) -> Failure:
    """How a turn ends that needs it."""
    text = f"{said_of(listing)}, so this turn was stopped before its next step; what it had done stands."
    return Failure(code=f"{listing.kind}_{listing.status}", message=text[0].upper() + text[1:])
