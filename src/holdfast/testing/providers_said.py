"""What the fakes of all four protocols share: a step cut into pieces, and failures as servers name them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Protocol

import msgspec
from msgspec import Struct

from holdfast.drivers.sim import Step
from holdfast.errors import DriverError, DriverErrorKind
from holdfast.messages import StopReason, ToolCall

SIGNATURE = "c2lnbmVkIGJ5IGEgZmFrZQ=="
"""What proves a thought to be the fake's own, in protocols that want a proof."""
CREATED = 1_767_225_600
"""When every answer was made, in seconds since 1970."""

PieceKind = Literal["thinking", "text", "call", "arguments"]
Piece = tuple[PieceKind, str, int]
"""Kind, text, and of a call which one it is. `call` comes once before the arguments of each."""

STATUSES: dict[DriverErrorKind, int] = {
    "authentication": 401,
    "quota": 429,
    "rate_limit": 429,
    "overloaded": 503,
    "timeout": 504,
    "too_large": 413,
    "invalid_request": 400,
    "content_policy": 400,
    "unsupported": 400,
}
"""The status of each kind of failure, where a protocol has no other; anything else is a 500."""


class Asked(Struct, frozen=True, kw_only=True):
    """What a fake has to know of a request."""

    model: str
    stream: bool
    usage: bool = True
    """Whether a stream should end with its usage."""


class Told(Struct, frozen=True, kw_only=True):
    """One answer to be given."""

    step: Step
    asked: Asked
    number: int
    """Which one it is, from 1: it is in the answer's id."""
    call_ids: tuple[str, ...] | None = None
    """The ids of the calls; None gives each one of its own."""

    @property
    def stop(self) -> StopReason:
        """Why the answer ends."""
        return self.step.stop or ("tool_calls" if self.step.calls else "end_turn")

    def call_id(self, index: int) -> str:
        """The id of this call."""
        if self.call_ids is not None:
            return self.call_ids[index % len(self.call_ids)] if self.call_ids else ""
        return self.step.calls[index].provider_id or f"call_{self.number}_{index + 1}"

    def pieces(self) -> Iterator[Piece]:
        """The step in the order and the portions that it streams in."""
        step = self.step
        for word in words(step.thinking):
            yield "thinking", word, 0
        for piece in step.pieces or words(step.text):
            yield "text", piece, 0
        for index, call in enumerate(step.calls):
            yield "call", "", index
            half = len(call.arguments) // 2
            for piece in filter(None, (call.arguments[:half], call.arguments[half:])):
                yield "arguments", piece, index


class Voice(Protocol):
    """Speaks one protocol: one object for each answer."""

    base: ClassVar[str]
    """The path that base URLs end in, as our drivers take them."""

    def __init__(self, told: Told) -> None: ...

    @staticmethod
    def asked(path: str, headers: dict[str, str], body: dict[str, Any]) -> Asked | str:
        """What is wanted, or what is wrong with the request."""
        ...

    @staticmethod
    def refusal(error: DriverError) -> tuple[int, dict[str, Any]]:
        """The status and the body that say this."""
        ...

    def begin(self) -> list[bytes]:
        """The events before the first piece."""
        ...

    def add(self, piece: Piece) -> list[bytes]:
        """The events that bring this piece."""
        ...

    def end(self) -> list[bytes]:
        """The events after the last piece."""
        ...

    def complaint(self, error: DriverError) -> list[bytes]:
        """The failure inside a stream."""
        ...

    def whole(self) -> dict[str, Any]:
        """The answer that is not streamed."""
        ...


def words(text: str) -> list[str]:
    """The text cut before its spaces."""
    first, *rest = text.split(" ")
    return [*filter(None, [first]), *(f" {word}" for word in rest)]


def text_of(step: Step) -> str:
    """All the text of a step."""
    return step.text or "".join(step.pieces)


def given(call: ToolCall) -> Any:
    """The arguments as a JSON value; what is no JSON stays a string."""
    try:
        return msgspec.json.decode(call.arguments or "{}")
    except msgspec.MsgspecError:
        return call.arguments


def event(data: dict[str, Any], name: str = "") -> bytes:
    """One server-sent event. Characters stand for themselves in it, U+2028 too."""
    head = b"event: %s\n" % name.encode() if name else b""
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"


def status_of(error: DriverError) -> int:
    """The HTTP status of a failure."""
    return error.status or STATUSES.get(error.kind, 500)
