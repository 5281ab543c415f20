"""A store with a bug for each session whose name asks for one: what a race must notice."""

import asyncio
import random
from asyncio import Future
from collections.abc import Sequence

from msgspec import structs

from holdfast.errors import SessionHeld, Superseded
from holdfast.events import Event
from holdfast.store import FREE, Terms
from holdfast.stores.postgres import PostgresStore


class FaultyStore(PostgresStore):
    """As its superclass, except for sessions named `faulty_…`."""

    SIGN = "faulty_"

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        append = super().append
        match session_id.removeprefix(self.SIGN):
            case "fence":
                return asyncio.ensure_future(self._unfenced(session_id, events, expected, terms))
            case "early" if random.random() < 0.2:  # acknowledged, and never written
                done: Future[None] = asyncio.get_running_loop().create_future()
                done.set_result(None)
                return done
            case "twice" if random.random() < 0.2:
                return asyncio.ensure_future(self._twice(session_id, events, expected, epoch, terms))
            case "letter":  # it is not taken
                terms = structs.replace(terms, taken=())
            case "change" if random.random() < 0.2:
                events = [structs.replace(event, id=event.id[:-1] + "0") for event in events]
        return append(session_id, events, expected=expected, epoch=epoch, terms=terms)

    async def _unfenced(self, session_id: str, events: Sequence[Event], expected: int, terms: Terms) -> None:
        """The epoch is whichever is there."""
        head = await self.head(session_id)
        assert head is not None
        await super().append(session_id, events, expected=expected, epoch=head.epoch, terms=terms)

    async def _twice(
        self, session_id: str, events: Sequence[Event], expected: int, epoch: int, terms: Terms
    ) -> None:
        """Sent again as if the answer had been lost, without a look whether it is there already."""
        last = events[-1].sequence
        await super().append(session_id, events, expected=expected, epoch=epoch, terms=terms)
        again = [structs.replace(event, sequence=last + n) for n, event in enumerate(events, 1)]
        try:
            await super().append(session_id, again, expected=last, epoch=epoch, terms=terms)
        except Superseded:
            return

    async def claim(self, session_id: str, *, owner: str = "", hold: float = 0.0) -> int:
        match session_id.removeprefix(self.SIGN):
            case "lease":
                try:
                    return await super().claim(session_id, owner=owner, hold=hold)
                except SessionHeld as held:
                    return await super().claim(session_id, owner=held.owner, hold=hold)
            case "epoch":  # two holders of one
                head = await self.head(session_id)
                assert head is not None
                return head.epoch
        return await super().claim(session_id, owner=owner, hold=hold)

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        skips = session_id == f"{self.SIGN}skip" and random.random() < 0.2
        page = await super().read(session_id, after=after + skips, limit=limit)
        return page if page else await super().read(session_id, after=after, limit=limit)
