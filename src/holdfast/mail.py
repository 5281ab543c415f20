"""Mail: what is left for a session while another process is at work on it, and what this process left so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from holdfast.errors import SessionHeld, Superseded, UsageError
from holdfast.events import EventContext, InputMessage, TurnCancelled
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.store import Letter
from holdfast.turn.admit import admit
from holdfast.turn.document import keep_document

End = Callable[[str, str, int], Awaitable[bool]]
"""Ends a turn for this reason, as this letter asks; whether there was still something to end."""


class Mail:
    """The letters of one session."""

    def __init__(self, journal: Journal, manifest: Callable[[], Awaitable[Manifest]]) -> None:
        self._journal = journal
        self._manifest = manifest

    async def collect(self, end: End) -> bool:
        """Take in the letters that were left, unless another process is at work on the session; whether any were.

        `end` is told of turns that somebody wants cancelled. It is not kept: a circle would outlive its session.
        """
        journal = self._journal
        try:
            await journal.own()
            journal.fresh = False
            letters = await journal.store.letters(journal.state.session_id)
            if not letters:
                return False
            manifest = await self._manifest()
            late = [letter.number for letter in letters if not await self._take(letter, manifest, end)]
            await journal.flush()
            if late:  # after the flush: what they repeat must be on the log before they are gone
                await journal.store.discard(journal.state.session_id, late, epoch=journal.epoch)
        except (SessionHeld, Superseded):
            return False  # then they are taken in there
        return True

    async def _take(self, letter: Letter, manifest: Manifest, end: End) -> bool:
        """Record what the letter says; False when that makes no sense any more."""
        said, journal = letter.event.data, self._journal
        if letter.number in journal.answered:
            return True
        if isinstance(said, TurnCancelled):
            return await end(letter.event.context.turn_id, said.reason, letter.number)
        if isinstance(said, InputMessage):
            await keep_document(journal, manifest, said.output)
        try:
            if not admit(said, journal, manifest, letter.event.ts):
                return False
        except UsageError:
            return False
        journal.take(letter.number)
        return True

    async def pending(self, turn_id: str) -> bool:
        """Whether this turn was asked for in a letter that nobody has taken yet."""
        journal = self._journal
        letter = journal.posted.get(turn_id)
        if letter is None:
            return False
        if any(it.event.id == letter for it in await journal.store.letters(journal.state.session_id)):
            return True
        del journal.posted[turn_id]
        await journal.refresh()
        return False

    async def ask_end(self, turn_id: str, reason: str) -> None:
        """Leave the end of the turn to whoever drives it."""
        await self._journal.post(TurnCancelled(iterations=0, reason=reason), EventContext(turn_id=turn_id))
