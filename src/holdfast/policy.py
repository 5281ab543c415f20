"""Policy: one async function that is asked before anything consequential happens.

    async def decide(action: Action) -> Decision: ...

A policy that raises or times out denies. A denied call is a result that the model reads; only `Interrupt` ends
the turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from holdfast.events import Effect
from holdfast.hook import Decision

ActionKind = Literal["turn", "model", "tool", "child", "delivery", "capability"]


class Action(Struct, frozen=True, kw_only=True):
    """What is about to happen. Fields that do not belong to the kind are empty."""

    kind: ActionKind
    session_id: str
    turn_id: str
    name: str = ""
    """The tool, model, child, sink or capability."""
    call_id: str = ""
    arguments: str = ""
    """JSON text, valid against the tool's schema."""
    effect: Effect | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """A named decision function; the name stands in the manifest and in every decision it makes."""

    name: str
    decide: Callable[[Action], Awaitable[Decision]]
    timeout: float = 5.0
    """Seconds; a policy that takes longer denies."""

    def describe(self) -> dict[str, object]:
        """What of this policy changes behaviour, as plain data."""
        return {"name": self.name, "timeout": self.timeout}
