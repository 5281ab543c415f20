"""How a turn ended, and what it answered."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from holdfast.events import Failure, TurnStop
from holdfast.facts.budgets import BudgetExceeded
from holdfast.messages import ToolResult, Usage

TurnStatus = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last answer that was held against a turn's output contract."""

    contract: str
    """Its name."""
    text: str = ""
    """The answer as the model gave it; JSON when it fits. Empty before there was any."""
    fits: bool = False
    wrapped: bool = False
    """Whether what was asked for is the property `value` of that JSON."""


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a turn ended."""

    turn_id: str
    status: TurnStatus
    stop: TurnStop
    iterations: int
    usage: Usage
    cost: Decimal | None = None
    """Of its replies, in US dollars; None where that of any is not known."""
    text: str = ""
    error: Failure | None = None
    in_doubt: tuple[ToolResult, ...] = ()
    answer: Answer | None = None
    """Where its caller asked for one of a certain shape."""
    reason: str = ""
    exceeded: BudgetExceeded | None = None
    """The budget that it ended at."""
