"""Telemetry: bounded queues of what sinks are told. A slow sink loses progress, and never the end of a run.

Telemetry decides nothing: what it loses can be told again from the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct, structs

from holdfast.compat.agent_sdk.canonical import Wire
from holdfast.compat.agent_sdk.content import capture
from holdfast.compat.agent_sdk.policy import Capture, CapturePolicy

ProjectionKind = Literal[
    "progress", "run_terminal", "usage", "cost_estimate", "cost_correction", "sink_health", "repair_cursor"
]


class Projection(Struct, frozen=True, kw_only=True):
    """What a sink is told about one event."""

    kind: ProjectionKind
    run_id: str
    journal_cursor: str
    redacted_summary: str = ""
    raw: str | None = None
    """The content itself, if anybody asked for it. Stripped unless the sink takes it too."""

    @property
    def preserved(self) -> bool:
        """Whether progress makes way for it."""
        return self.kind != "progress"

    def __repr__(self) -> str:
        return f"Projection(kind={self.kind!r}, raw={self.raw is not None})"


class ExportCursor(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """How far a sink has come. Neither a cursor of events nor one of a journal."""

    sink_id: str
    export_seq: int = 0


class RepairCursor(Wire, frozen=True, kw_only=True, tag="journal"):
    """From where the journal can repair a sink."""

    cursor: str


class SinkFailure(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """Something did not reach a sink."""

    sink_id: str
    sink_kind: str
    failure_kind: Literal["overflow", "export_failed"]
    dropped_count: int
    last_acknowledged_cursor: ExportCursor
    repair_cursor: RepairCursor
    terminal_preserved: bool
    redacted_summary: str
    unsafe_pending_reason: str | None = None


@dataclass
class SinkQueue:
    """What waits for one sink."""

    sink_id: str
    sink_kind: str
    capacity: int = 64
    terminal_reserve: int = 1
    capture: CapturePolicy = field(default_factory=CapturePolicy)
    waiting: list[Projection] = field(default_factory=list)
    acknowledged: int = 0

    def effective(self, asked: Capture) -> str:
        """How much of content this sink is told when this much is asked for."""
        return capture(asked, self.capture).effective

    def push(self, projection: Projection) -> SinkFailure | None:
        """Take one more; what was lost for it, if anything."""
        if projection.raw is not None and self.effective("RawContent") != "raw_content":
            projection = structs.replace(projection, raw=None)
        dropped = self._make_room() if projection.preserved else 0
        room = self.capacity if projection.preserved else max(0, self.capacity - self.terminal_reserve)
        if len(self.waiting) >= room and not (projection.preserved and dropped):
            return self._lost(projection, 1, preserved=not projection.preserved)
        self.waiting.append(projection)
        return self._lost(projection, dropped, preserved=True) if dropped else None

    def _make_room(self) -> int:
        dropped = 0
        while len(self.waiting) >= self.capacity:
            place = next((at for at, held in enumerate(self.waiting) if not held.preserved), None)
            if place is None:
                break
            del self.waiting[place]
            dropped += 1
        return dropped

    def _lost(self, projection: Projection, dropped: int, *, preserved: bool) -> SinkFailure:
        words = (
            "telemetry terminal projection preserved by dropping non-terminal progress"
            if projection.preserved and preserved
            else "telemetry projection dropped because the sink is full"
        )
        return self._failure("overflow", projection, dropped, words, preserved=preserved)

    def _failure(
        self,
        kind: Literal["overflow", "export_failed"],
        projection: Projection,
        dropped: int,
        words: str,
        *,
        preserved: bool,
    ) -> SinkFailure:
        return SinkFailure(
            sink_id=self.sink_id,
            sink_kind=self.sink_kind,
            failure_kind=kind,
            dropped_count=dropped,
            last_acknowledged_cursor=ExportCursor(sink_id=self.sink_id, export_seq=self.acknowledged),
            repair_cursor=RepairCursor(cursor=projection.journal_cursor),
            terminal_preserved=preserved,
            redacted_summary=words,
        )

    def drain(self, send: Callable[[Projection], None]) -> SinkFailure | None:
        """Send what waits, in order, up to the first that fails; that one waits on. The failure, if any."""
        while self.waiting:
            try:
                send(self.waiting[0])
            except Exception:
                words = "telemetry sink did not take a projection"
                return self._failure("export_failed", self.waiting[0], 0, words, preserved=True)
            del self.waiting[0]
            self.acknowledged += 1
        return None
