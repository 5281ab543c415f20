"""Facts about what the model is told in place of the beginning of a transcript."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import ClassVar, Literal

from holdfast.errors import DriverErrorKind
from holdfast.facts.fact import Fact, Failure
from holdfast.messages import Message, Usage

CompactReason = Literal["too_large", "threshold", "asked"]
"""Why a transcript is summarised: the provider refused it as too large, it has grown beyond the threshold, or somebody
asked for it."""


class ContextCompacted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """From here on the model is told `summary` in place of the first `covers` messages. The log keeps them all."""

    kind: ClassVar[str] = "context.compacted"
    summary: Message
    covers: int
    """Messages of the transcript, from its beginning."""
    upto: str
    """The id of the last of them."""
    reason: CompactReason
    messages_before: int
    """That the model was told, an earlier summary included."""
    messages_after: int
    tokens_before: int | None = None
    """Input tokens of the last reply before; None where its provider did not say."""
    attempt: int = 1
    model: str = ""
    response_id: str = ""
    usage: Usage = Usage()
    """Of the model call that made the summary."""
    duration_ms: int = 0
    cost: Decimal | None = None
    """In US dollars; None where it is not known."""
    price_date: date | None = None


class CompactionFailed(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """There is no summary, and the transcript stays as it was. With `retry_at` another attempt is due then; with
    `next_model` that one is sent the whole transcript; without either, a turn whose request was too large is lost, and
    any other goes on."""

    kind: ClassVar[str] = "context.compaction.failed"
    reason: CompactReason
    error_kind: DriverErrorKind
    error: Failure
    attempt: int
    retry_at: datetime | None = None
    model: str = ""
    """That was to summarise."""
    next_model: str = ""


class CompactionAsked(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Somebody wants the transcript summarised before the next model call."""

    kind: ClassVar[str] = "context.compaction.asked"
    by: str


FACTS: tuple[type[Fact], ...] = (ContextCompacted, CompactionFailed, CompactionAsked)
"""The kinds of this subject."""
