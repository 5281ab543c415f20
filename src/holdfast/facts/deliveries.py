"""The facts about output that is delivered: owed with the end of its turn, begun before it is sent, settled after."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from msgspec import Struct

from holdfast.facts.fact import Fact

DeliveryStatus = Literal["delivered", "failed", "denied", "in_doubt"]
"""What became of a delivery. In doubt: it was cut off, and nobody knows whether it arrived."""


class SinkOwed(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The output of this turn is to be delivered to a sink, once. `key` is the same for ever."""

    kind: ClassVar[str] = "sink.owed"
    key: str
    sink: str


class SinkStarted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The output is about to be handed to the sink for the `attempt`-th time."""

    kind: ClassVar[str] = "sink.started"
    key: str
    sink: str
    attempt: int


class SinkDelivered(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What became of it. With `retry_at` it did not arrive, and is tried again then."""

    kind: ClassVar[str] = "sink.delivered"
    key: str
    sink: str
    status: DeliveryStatus
    attempt: int = 0
    receipt: str = ""
    """What the sink said of what it took."""
    reason: str = ""
    retry_at: datetime | None = None


FACTS: tuple[type[Fact], ...] = (SinkOwed, SinkStarted, SinkDelivered)
"""The kinds of this subject."""


class Owed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A delivery that has not been made."""

    key: str
    sink: str
    turn_id: str
    since: datetime
    attempt: int = 0
    under_way: bool = False
    """An attempt was begun, and nobody has said yet what became of it."""
    retry_at: datetime | None = None
    status: Literal["owed", "failed", "denied", "in_doubt"] = "owed"
    reason: str = ""
