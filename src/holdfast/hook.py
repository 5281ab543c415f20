"""Decisions, and the hooks that make them.

Watching is not a hook: read the journal. A hook is awaited at a point of the turn, receives one frozen value, and
returns a decision or None. The first `Deny` wins.

    before_turn    may deny the input
    before_reason  may deny the model call
    before_tool    may deny the call, change its arguments, or ask
    after_tool     may replace the result
    after_turn     advisory
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from msgspec import Struct

from holdfast.messages import Message, ToolResult

Point = Literal["before_turn", "before_reason", "before_tool", "after_tool", "after_turn"]


class Allow(Struct, frozen=True, kw_only=True):
    """Go on."""


class Deny(Struct, frozen=True):
    """Do not do this one thing. The model reads the reason and goes on."""

    reason: str


class Modify(Struct, frozen=True, kw_only=True):
    """Do it with these arguments (before a tool, JSON text), or take this result (after one)."""

    arguments: str | None = None
    result: str | None = None
    reason: str = ""


class AskFor(Struct, frozen=True, kw_only=True):
    """A person must agree first."""

    reason: str
    owner: str = ""
    expires_at: datetime | None = None


class Interrupt(Struct, frozen=True):
    """End the turn now."""

    reason: str


class Defer(Struct, frozen=True, kw_only=True):
    """Not before this instant."""

    until: datetime
    reason: str = ""


Decision = Allow | Deny | Modify | AskFor | Interrupt | Defer
"""What a hook or policy may answer."""


class HookEvent(Struct, frozen=True, kw_only=True):
    """What a hook is told. Fields that do not belong to its point are empty."""

    point: Point
    session_id: str
    turn_id: str
    message: Message | None = None
    """The input (before_turn) or the last output (after_turn)."""
    tool: str = ""
    call_id: str = ""
    arguments: str = ""
    result: ToolResult | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Hook:
    """An awaited function at one point of the turn."""

    id: str
    """Namespaced, such as `files:before_tool`; part of the manifest's digest."""
    point: Point
    run: Callable[[HookEvent], Awaitable[Decision | None]]
    guard: bool = False
    """A guard that raises or runs out of time denies; another is reported and passed over."""
    timeout: float = 5.0
    """Seconds, at most 30."""

    def describe(self) -> dict[str, object]:
        """What of this hook changes behaviour, as plain data."""
        return {"id": self.id, "point": self.point, "guard": self.guard, "timeout": self.timeout}
