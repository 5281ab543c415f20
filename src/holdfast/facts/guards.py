"""The fact of what a guard decided."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct

from holdfast.facts.fact import Fact
from holdfast.messages import Message

Place = Literal["stream", "output", "tool_input", "tool_output"]
"""Where a guard looks: at what the model says while it says it; at its whole message, which nobody sees before; at the
arguments of a call, before it is recorded; at what a call came to, before it is recorded."""

GuardAction = Literal["block", "redact", "log"]
"""What becomes of it: it does not pass, it passes without what was found, or it passes and that is noted."""


class GuardDecided(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A guard found something, or failed. What it found is not told: neither here nor anywhere else on the log."""

    kind: ClassVar[str] = "guard.decided"
    guard: str
    where: Place
    action: GuardAction
    code: str
    """Stable; see `holdfast.guard.CODES`."""
    rule: str = ""
    """Which of its rules, such as `expression 2` or `words 1`; of one that failed, the type of the error."""
    call_id: str = ""
    message_id: str = ""
    """Of the model's message that stands in place of what was withheld, or that was let through."""
    reason: str = ""
    """The guard's own words."""
    note: Message | None = None
    """What the model is told when it is asked again."""

    @property
    def in_words(self) -> str:
        """Who decided, as which code, and why."""
        return f"the guard {self.guard} does not let it pass ({self.code})" + (
            f": {self.reason}" if self.reason else ""
        )


FACTS: tuple[type[Fact], ...] = (GuardDecided,)
"""The kinds of this subject."""


class Withheld(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The replies of a turn that guards withheld."""

    times: int = 0
    why: str = ""
    """The last of them, when the turn ends with it."""
