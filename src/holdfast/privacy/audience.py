"""The audience: those who see what a journal records, and what is kept from them because it is secret."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.events import Event, Fact
from holdfast.follow import Feed, Signal
from holdfast.privacy.redact import Redactor


class Audience:
    """Those who follow one session, and those who follow many."""

    __slots__ = ("feed", "overview", "redactor")

    def __init__(self) -> None:
        self.feed: Feed | None = None
        self.overview: Feed | None = None
        self.redactor: Redactor | None = None
        """Takes secrets out of whatever is recorded or shown."""

    @property
    def listening(self) -> bool:
        """Whether anybody would see a signal."""
        feed, overview = self.feed, self.overview
        return (feed is not None and feed.readers > 0) or (overview is not None and overview.readers > 0)

    def clean(self, facts: tuple[Fact, ...], session_id: str) -> tuple[Fact, ...]:
        """The facts without secrets. What was held back of a stream that they end is shown before."""
        if self.redactor is None or not self.redactor.active:
            return facts
        for signal in self.redactor.rest(facts):
            self._show(signal, session_id)
        return self.redactor.facts(facts)

    def blob(self, data: bytes) -> bytes:
        """The bytes without secrets."""
        return data if self.redactor is None else self.redactor.data(data)

    def learn(self, thing: object) -> None:
        """What this driver says that it keeps secret."""
        if self.redactor is not None:
            self.redactor.learn_from(thing)

    def put(self, events: Sequence[Event]) -> None:
        """Show what is durable now."""
        for feed in (self.feed, self.overview):
            if feed is not None and feed.readers:
                feed.put(events)

    def signal(self, signal: Signal, session_id: str) -> None:
        """Show a signal, without secrets."""
        if self.redactor is None or not self.redactor.active:
            self._show(signal, session_id)
            return
        for shown in self.redactor.signals(signal):
            self._show(shown, session_id)

    def _show(self, signal: Signal, session_id: str) -> None:
        for feed in (self.feed, self.overview):
            if feed is not None and feed.readers:
                feed.signal(signal, session_id)

    def fail(self, error: BaseException) -> None:
        """Tell those who follow this session that nothing more comes, and why."""
        if self.feed is not None:
            self.feed.fail(error)

    def join(self, count: int) -> Feed:
        """The feed of the session, entered where its log is at `count`."""
        feed = self.feed = self.feed or Feed()
        feed.enter(count)
        return feed
