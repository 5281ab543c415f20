"""The bounded queue of a reader: what is left of a stream of events when it does not keep up.

Events that end something push others out; what was dropped is told with the next event, and from where to repair it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import structs

from holdfast.compat.agent_sdk.envelope import (
    DROPPED,
    FULL,
    EventCursor,
    Frame,
    OverflowNotice,
    Payload,
    Published,
    Scope,
    frame_of,
)
from holdfast.compat.agent_sdk.filters import CompiledFilter, QueueBounds
from holdfast.compat.agent_sdk.kinds import PROGRESS


def read(
    events: Iterable[Published],
    wanted: CompiledFilter,
    *,
    scope: Scope | None = None,
    after: EventCursor | None = None,
) -> list[Frame]:
    """What a reader of this scope gets who comes back with this cursor and does not read meanwhile.

    `scope` is the filter's own when not given. Raises `UsageError` for a cursor of another scope.
    """
    scope = wanted.scope if scope is None else scope
    if after is not None:
        after.check(scope)
    queue = BoundedQueue(wanted.filter.queue)
    for published in events:
        late = after is None or published.envelope.event_seq > after.event_seq
        if late and wanted.matches(published.envelope) and not queue.push(frame_of(published, scope)):
            break
    return queue.close()


@dataclass
class BoundedQueue:
    """Frames that wait for a reader who does not read."""

    bounds: QueueBounds
    frames: list[Frame] = field(default_factory=list)
    _dropped: list[EventCursor] = field(default_factory=list)
    _reason: str = DROPPED
    _terminal_kept: bool = True
    _progress: list[Frame] = field(default_factory=list)

    def push(self, frame: Frame) -> bool:
        """Take one more frame, or drop what the policy says. False: the reader has failed and gets no more."""
        if frame.event.envelope.terminal:
            self._flush()
            self._make_room()
            self._add(frame)
            return True
        if self.bounds.overflow == "summarize_and_continue":
            return self._summarize(frame)
        return self._take(frame)

    def close(self) -> list[Frame]:
        """What the reader finds; what was dropped since the last frame is told with it."""
        self._flush()
        self._tell_last()
        return self.frames

    def _take(self, frame: Frame) -> bool:
        if self._accepts():
            self._add(frame)
            return True
        policy = self.bounds.overflow
        if policy == "drop_progress" and not _is_progress(frame):
            return self._evict_progress(frame)
        self._drop(frame, FULL if policy == "fail_subscriber" else DROPPED)
        if policy != "fail_subscriber":
            return True
        self._tell_last()
        return False

    def _accepts(self) -> bool:
        bounds = self.bounds
        room = bounds.capacity - min(bounds.terminal_reserve, bounds.capacity)
        waiting = sum(not frame.event.envelope.terminal for frame in self.frames)
        return len(self.frames) < bounds.capacity and waiting < room

    def _evict_progress(self, frame: Frame) -> bool:
        place = next((at for at, held in enumerate(self.frames) if _is_progress(held)), None)
        if place is None:
            self._drop(frame, FULL)
        else:
            self._drop(self.frames.pop(place), DROPPED)
            self._add(frame)
        return True

    def _make_room(self) -> None:
        """The oldest frames that end nothing go; where there are none, the oldest of all, and that is said."""
        while self.frames and len(self.frames) >= self.bounds.capacity:
            ordinary = [at for at, held in enumerate(self.frames) if not held.event.envelope.terminal]
            gone = self.frames.pop(ordinary[0] if ordinary else 0)
            self._drop(gone, DROPPED if ordinary else FULL)
            self._terminal_kept = self._terminal_kept and bool(ordinary)

    def _summarize(self, frame: Frame) -> bool:
        if _is_progress(frame):
            self._progress.append(frame)
            return True
        self._flush()
        return self._take(frame)

    def _flush(self) -> None:
        """Put one frame in the place of the progress that was left out."""
        if not self._progress:
            return
        left, self._progress = self._progress, []
        for frame in left:
            self._drop(frame, DROPPED)
        if self._accepts():
            words = f"redacted progress summary for {len(left)} dropped progress frames"
            payload = Payload(mode="redacted_summary", redacted_summary=words)
            self._add(
                structs.replace(left[-1], event=Published(envelope=left[-1].event.envelope, payload=payload))
            )

    def _add(self, frame: Frame) -> None:
        if self._dropped:
            frame = structs.replace(frame, overflow=self._notice())
        self.frames.append(frame)

    def _drop(self, frame: Frame, reason: str) -> None:
        if frame.overflow is not None:
            self._take_back(frame.overflow)
        self._dropped.append(frame.cursor)
        self._reason = reason

    def _tell_last(self) -> None:
        """Tell what was dropped since the last frame with that frame, beside what it tells already."""
        if self._dropped and self.frames:
            last = self.frames[-1]
            if last.overflow is not None:
                self._take_back(last.overflow)
            self.frames[-1] = structs.replace(last, overflow=self._notice())

    def _take_back(self, notice: OverflowNotice) -> None:
        """What an earlier frame had to tell is told by another one."""
        self._dropped[:0] = [notice.gap_start or notice.gap_end] * notice.dropped_count
        self._terminal_kept = self._terminal_kept and notice.terminal_preserved

    def _notice(self) -> OverflowNotice:
        gone, self._dropped = sorted(self._dropped, key=lambda cursor: cursor.event_seq), []
        notice = OverflowNotice(
            policy=self.bounds.overflow,
            dropped_count=len(gone),
            gap_start=gone[0],
            gap_end=gone[-1],
            repair_from=next((cursor.journal_cursor for cursor in gone if cursor.journal_cursor), None),
            terminal_preserved=self._terminal_kept,
            reason=self._reason,
        )
        self._reason, self._terminal_kept = DROPPED, True
        return notice


def _is_progress(frame: Frame) -> bool:
    return frame.event.envelope.event_kind in PROGRESS
