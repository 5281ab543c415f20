"""Watch: a message while it is being written."""

from __future__ import annotations

import asyncio

from holdfast.driver import DeltaKind
from holdfast.events import OutputMessageReplaced, OutputMessageShown
from holdfast.follow import ArgumentsDelta, TextDelta, ThinkingDelta
from holdfast.ids import new_id
from holdfast.journal import Journal
from holdfast.turn.call import plain

KEPT_WITHIN = 1.0
"""Seconds after which words that were shown are put on the log, should the message not be finished by then. Doubled
each time, so that a long message is not written in a hundred pieces."""
KEPT_AT_LAST = 8.0
"""Seconds at most."""


class Watch:
    """Sees each piece as it arrives: times it, shows it to whoever looks, and keeps its words from being lost."""

    def __init__(self, journal: Journal, turn_id: str) -> None:
        self._journal = journal
        self._turn_id = turn_id
        self.message_id = new_id("message")
        """Of what is being written."""
        self._now = asyncio.get_running_loop().time
        self._started = self._now()
        self.first_token_ms: int | None = None
        self._words: list[str] = []
        """Shown and not yet kept."""
        self._timer: asyncio.TimerHandle | None = None
        self._wait = KEPT_WITHIN
        self._over = False

    def elapsed_ms(self) -> int:
        return round((self._now() - self._started) * 1000)

    def keep(self) -> None:
        """Stage the words that were shown since the last time, to be durable soon."""
        words, self._words = "".join(self._words), []
        self._wait = min(self._wait * 2, KEPT_AT_LAST)
        self.done()
        if words and self._journal.broken is None:
            self._journal.stage(OutputMessageShown(message_id=self.message_id, text=plain(words)))
            self._journal.flush_within(0.0)

    def give_up(self) -> None:
        """Keep the words that were shown; what a driver that goes on all the same has to say is not heard."""
        self._over = True
        self.keep()

    def withdraw(self, reason: str, *, told: bool) -> None:
        """Nothing more is shown; what was (`told`) is void, and those words of it that are not kept never will be."""
        told, self._over, self._words = told and not self._over, True, []
        self.done()
        if told and self._journal.broken is None:
            self._journal.stage(OutputMessageReplaced(message_id=self.message_id, reason=reason))
            self._journal.flush_within(0.0)

    def heard(self) -> None:
        """Something came."""
        if self.first_token_ms is None:
            self.first_token_ms = self.elapsed_ms()

    def done(self) -> None:
        """Nothing is left to keep: the whole message is on the log, or about to be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def emit(self, kind: DeltaKind, piece: str, index: int) -> None:
        if self._over:
            return
        if self.first_token_ms is None:
            self.first_token_ms = self.elapsed_ms()
        journal = self._journal
        if kind == "text":
            self._words.append(piece)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._wait, self.keep)
        if not journal.audience.listening:
            return
        if kind == "text":
            journal.publish(TextDelta(turn_id=self._turn_id, message_id=self.message_id, text=piece))
        elif kind == "thinking":
            journal.publish(ThinkingDelta(turn_id=self._turn_id, message_id=self.message_id, text=piece))
        else:
            journal.publish(
                ArgumentsDelta(turn_id=self._turn_id, message_id=self.message_id, text=piece, index=index)
            )
