"""Whether what the processes of a race believe fits together, and fits the log."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from msgspec import Struct

from holdfast.events import Event
from holdfast.testing.said import said_in
from tests.stores.postgres.race_journal import (
    Claimed,
    Line,
    Meant,
    Posted,
    Posting,
    Refused,
    Renewed,
    Saw,
    Wrote,
    digest,
)

SLACK = 0.002
"""Seconds by which the server's clock may run apart from ours in the course of a lease."""


class Append(Struct, kw_only=True):
    """One that was asked for, and what became of it as far as its writer knows."""

    meant: Meant
    fate: str = "unknown"


class Told(Struct, kw_only=True):
    """What all writers said of one session."""

    claims: list[Claimed]
    appends: list[Append]
    letters: dict[str, bool]
    """Whether it is known that each was left."""
    ends: dict[int, float]
    """When the lease of each epoch may have run out at the earliest."""


def told(session: str, journals: Iterable[list[Line]]) -> Told:
    """Put together what each journal, in its order, has of this session."""
    found = Told(claims=[], appends=[], letters={}, ends={})
    for journal in journals:
        for line in journal:
            if line.session == session:
                _take(found, line)
    return found


def _take(found: Told, line: Line) -> None:
    ends = found.ends
    match line:
        case Claimed():
            found.claims.append(line)
            ends[line.epoch] = line.before + line.hold
        case Meant():
            found.appends.append(Append(meant=line))
            ends[line.epoch] = min(ends.get(line.epoch, 0.0), line.before + line.hold)
        case Wrote() | Refused():
            append = next(it for it in reversed(found.appends) if _of(it, line))
            append.fate = "wrote" if isinstance(line, Wrote) else "refused"
            if isinstance(line, Wrote):
                ends[line.epoch] = append.meant.before + append.meant.hold
        case Posting() | Posted():
            found.letters[line.letter] = isinstance(line, Posted)
        case Renewed() if line.after < ends.get(line.epoch, 0.0):  # else it may have come too late
            ends[line.epoch] = line.before + line.hold


def _of(append: Append, line: Wrote | Refused) -> bool:
    return (append.meant.epoch, append.meant.expected) == (line.epoch, line.expected)


def complaints(log: list[Event], left: list[str], found: Told) -> Iterator[str]:
    """Everything that is wrong with a session's log and the letters left there, given what its writers said."""
    yield from _of_sequence(log)
    yield from _of_epochs(found)
    yield from _of_leases(found)
    yield from _of_content(log, found)
    yield from _of_fencing(log, found)
    yield from _of_letters(log, left, found)


def _of_letters(log: list[Event], left: list[str], found: Told) -> Iterator[str]:
    """Each letter is in the log or lies there still, once."""
    words = [said_in(event).split()[2:3] for event in log]
    there = Counter([*left, *[word for (word,) in filter(None, words) if word.startswith("letter-")]])
    for letter, posted in found.letters.items():
        if there[letter] > 1 or (posted and there[letter] == 0):
            yield f"{letter} is there {there[letter]} times"


def _of_sequence(log: list[Event]) -> Iterator[str]:
    if [event.sequence for event in log] != list(range(1, len(log) + 1)):
        yield "the log has a gap, or a number twice"
    for event_id, times in Counter(event.id for event in log).items():
        if times > 1:
            yield f"{event_id} is in the log {times} times"


def _of_epochs(found: Told) -> Iterator[str]:
    for epoch, times in Counter(claim.epoch for claim in found.claims).items():
        if times > 1:
            yield f"epoch {epoch} has {times} holders"
    for one, other in pairwise(sorted(found.claims, key=lambda claim: claim.epoch)):
        if other.after < one.before:
            yield f"epoch {other.epoch} was given before epoch {one.epoch} was asked for"


def _of_leases(found: Told) -> Iterator[str]:
    """Nobody took a session from another owner before that one let go of it or its lease could have run out."""
    for one, other in pairwise(sorted(found.claims, key=lambda claim: claim.epoch)):
        if one.owner != other.owner and other.after < found.ends[one.epoch] - SLACK:
            early = found.ends[one.epoch] - other.after
            yield f"epoch {other.epoch} came {early:.3f} s before the lease of epoch {one.epoch} was over"


def _of_content(log: list[Event], found: Told) -> Iterator[str]:
    """Each event was meant to be where it is; what was acknowledged is all there, and what was refused is not."""
    digests = [digest(event) for event in log]
    place = {name: sequence for sequence, name in enumerate(digests, 1)}
    known: set[str] = set()
    for append in found.appends:
        meant = append.meant
        known.update(meant.events)
        there = [name for n, name in enumerate(meant.events, meant.expected + 1) if place.get(name) == n]
        what = f"the append of {len(meant.events)} after {meant.expected} under epoch {meant.epoch}"
        if append.fate == "wrote" and len(there) < len(meant.events):
            yield f"{what} was acknowledged, and {len(there)} of it are in the log"
        elif append.fate == "refused" and there:
            yield f"{what} was refused, and {len(there)} of it are in the log"
        elif len(there) not in (0, len(meant.events)):
            yield f"{what} was torn: {len(there)} of it are in the log"
    for sequence, name in enumerate(digests, 1):
        if name not in known:
            yield f"event {sequence} is not what anybody meant to write there"


def _of_fencing(log: list[Event], found: Told) -> Iterator[str]:
    """Epochs in the log never go back, belong to their writers, and end when a newer one was given."""
    epochs = [int(said_in(event).split()[1]) for event in log]
    for sequence, (one, other) in enumerate(pairwise(epochs), 2):
        if other < one:
            yield f"epoch {other} wrote event {sequence} after epoch {one} had written"
    owners = {claim.epoch: claim.owner for claim in found.claims}
    for event, epoch in zip(log, epochs, strict=True):
        writer = said_in(event).split()[0]
        if owners.get(epoch, writer) != writer:
            yield f"{writer} wrote event {event.sequence} under epoch {epoch} of {owners[epoch]}"
    given = _first_given_above(found.claims)
    for append in found.appends:
        since = given.get(append.meant.epoch)
        if append.fate == "wrote" and since is not None and append.meant.before > since:
            yield f"epoch {append.meant.epoch} wrote after {append.meant.expected} when a newer one had been given"


def _first_given_above(claims: list[Claimed]) -> dict[int, float]:
    """For each epoch, since when a newer one was known to somebody."""
    since: dict[int, float] = {}
    soonest: float | None = None
    for claim in sorted(claims, key=lambda claim: claim.epoch, reverse=True):
        if soonest is not None:
            since[claim.epoch] = soonest
        soonest = claim.after if soonest is None else min(soonest, claim.after)
    return since


def missed(log: list[Event], session: str, journal: list[Line]) -> Iterator[str]:
    """Everything that is wrong with what a reader saw of a session: each event once, in order."""
    seen = [
        event
        for line in journal
        if isinstance(line, Saw) and line.session == session
        for event in line.events
    ]
    written = [(event.sequence, digest(event)) for event in log]
    if seen == written:
        return
    at = next((n for n, pair in enumerate(zip(seen, written, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        yield f"a reader saw {len(seen)} of {len(written)} events"
    else:
        yield f"a reader saw event {seen[at][0]} where event {written[at][0]} belongs, or another in its place"
