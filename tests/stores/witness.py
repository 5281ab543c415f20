"""Who saw what a store acknowledged, and looks afterwards whether it is still there."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from holdfast.errors import HoldfastError, OutcomeUnknown
from holdfast.events import Event
from holdfast.store import FREE, Letter, Snapshot, Store, Terms
from holdfast.testing import WrappedStore


@dataclass
class Promises:
    """Everything that was acknowledged up to some moment."""

    logs: dict[str, dict[int, Event]] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    snapshots: dict[str, int] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
    letters: dict[str, Event] = field(default_factory=dict)
    """By the id of their event, until somebody wanted them gone."""
    taken: set[tuple[str, int]] = field(default_factory=set)
    """Letters that are gone for good: their session and number."""

    def logged(self, events: Iterable[Event], taken: Iterable[tuple[str, int]] = ()) -> None:
        self.taken.update(taken)
        for event in events:
            self.logs.setdefault(event.session_id, {})[event.sequence] = event
            self.epochs.setdefault(event.session_id, 1)

    def released(self, letters: Iterable[str]) -> None:
        for name in letters:
            self.letters.pop(name, None)

    def claimed(self, session_id: str, epoch: int) -> None:
        self.epochs[session_id] = max(epoch, self.epochs.get(session_id, 0))

    def saved(self, session_id: str, sequence: int) -> None:
        if session_id in self.epochs:  # one of an unknown session is passed over
            self.snapshots[session_id] = max(sequence, self.snapshots.get(session_id, 0))


Acknowledgement = Callable[[Promises], None]
"""Adds what was acknowledged to what was before."""


class Witness(WrappedStore):
    """A store whose acknowledgements are noted, each with the moment (`now`) at which its caller had it."""

    def __init__(self, store: Store, now: Callable[[], int] = lambda: 0) -> None:
        super().__init__(store)
        self._now = now
        self.acknowledged: list[tuple[int, Acknowledgement]] = []
        self.asked: dict[str, dict[int, list[Event]]] = {}
        """Every event that anybody wanted to append, by session and sequence."""
        self.refused: set[str] = set()
        """The ids of events of which their writer was told that they were not kept."""
        self._names: dict[int, str] = {}
        """The ids of the events in letters, by the letters' numbers."""

    def promises(self) -> Promises:
        """All that was acknowledged so far."""
        promises = Promises()
        for _, acknowledge in self.acknowledged:
            acknowledge(promises)
        return promises

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """See `Store.append`."""
        self._may_be_gone(terms.taken)
        write = super().append(session_id, events, expected=expected, epoch=epoch, terms=terms)
        for event in events:
            self.asked.setdefault(session_id, {}).setdefault(event.sequence, []).append(event)
        write.add_done_callback(lambda done: self._answered(done, tuple(events), terms.taken))
        return write

    def _answered(self, write: Future[None], events: tuple[Event, ...], taken: Sequence[int]) -> None:
        error = None if write.cancelled() else write.exception()
        if write.cancelled() or isinstance(error, OutcomeUnknown):
            return
        if error is None:
            gone = {(events[0].session_id, number) for number in taken}
            self._note(lambda promises: promises.logged(events, gone))
        else:
            self.refused.update(event.id for event in events)

    async def claim(self, session_id: str, *, owner: str = "", hold: float = 0.0) -> int:
        """See `Store.claim`."""
        epoch = await super().claim(session_id, owner=owner, hold=hold)
        self._note(lambda promises: promises.claimed(session_id, epoch))
        return epoch

    async def put_blob(self, data: bytes) -> str:
        """See `Store.put_blob`."""
        digest = await super().put_blob(data)
        self._note(lambda promises: promises.blobs.add(digest))
        return digest

    async def save_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
        """See `Store.save_snapshot`."""
        await super().save_snapshot(session_id, snapshot)
        self._note(lambda promises: promises.saved(session_id, snapshot.sequence))

    async def post(self, session_id: str, event: Event) -> None:
        """See `Store.post`."""
        await super().post(session_id, event)
        self._note(lambda promises: promises.letters.update({event.id: event}))

    async def letters(self, session_id: str) -> list[Letter]:
        """See `Store.letters`."""
        letters = await super().letters(session_id)
        self._names.update({letter.number: letter.event.id for letter in letters})
        return letters

    async def discard(self, session_id: str, numbers: Sequence[int], *, epoch: int) -> None:
        """See `Store.discard`."""
        self._may_be_gone(numbers)
        await super().discard(session_id, numbers, epoch=epoch)
        gone = {(session_id, number) for number in numbers}
        self._note(lambda promises: promises.taken.update(gone))

    def _may_be_gone(self, numbers: Sequence[int]) -> None:
        names = [self._names[number] for number in numbers if number in self._names]
        self._note(lambda promises: promises.released(names))

    def _note(self, acknowledge: Acknowledgement) -> None:
        self.acknowledged.append((self._now(), acknowledge))


async def lost(promises: Promises, store: Store) -> list[str]:
    """What was acknowledged and is not there, or not as it was."""
    found: list[str] = []
    for session_id, kept in promises.logs.items():
        there = {event.sequence: event for event in await store.read(session_id, limit=100_000)}
        found += [f"{session_id}:{n}" for n, event in kept.items() if there.get(n) != event]
    for session_id, epoch in promises.epochs.items():
        head = await store.head(session_id)
        if head is None or head.epoch < epoch:
            found.append(f"epoch {epoch} of {session_id}")
    for session_id, sequence in promises.snapshots.items():
        snapshot = await store.load_snapshot(session_id)
        if snapshot is None or snapshot.sequence < sequence:
            found.append(f"the snapshot of {session_id}:{sequence}")
    for digest in promises.blobs:
        try:
            await store.get_blob(digest)
        except HoldfastError as error:
            found.append(f"blob {digest}: {error}")
    return found + await _lost_letters(promises, store)


async def _lost_letters(promises: Promises, store: Store) -> list[str]:
    there = {session_id: await store.letters(session_id) for session_id in promises.epochs}
    events = {letter.event.id: letter.event for letters in there.values() for letter in letters}
    numbers = {(session_id, letter.number) for session_id in there for letter in there[session_id]}
    lost = [f"the letter {name}" for name, event in promises.letters.items() if events.get(name) != event]
    return lost + [f"that letter {number} was taken" for _, number in promises.taken & numbers]


async def foreign(witness: Witness, store: Store) -> list[str]:
    """What is there and was never asked for, or was refused."""
    found: list[str] = []
    for session_id, asked in witness.asked.items():
        for event in await store.read(session_id, limit=100_000):
            if event not in asked.get(event.sequence, ()):
                found.append(f"{session_id}:{event.sequence} is not what was appended")
            elif event.id in witness.refused:
                found.append(f"{session_id}:{event.sequence} was refused")
    return found
