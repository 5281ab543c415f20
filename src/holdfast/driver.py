"""The contract of a model driver: one method, a callback for what streams, a `Reply`.

A driver speaks one wire protocol. It turns a `Request` into bytes, sends them, calls `emit` for every piece that
arrives, and returns the whole as a `Reply`, or raises `DriverError`. It keeps no history and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, Protocol, overload

from msgspec import Struct, field

from holdfast.messages import Message, StopReason, Usage

DeltaKind = Literal["text", "thinking", "arguments"]
Emit = Callable[[DeltaKind, str, int], None]
"""`emit(kind, piece, index)`: index is the call's place in the message for `arguments`, else 0. Never blocks."""


AnswersBy = Literal["schema", "tool", "words"]
"""How a model is told the shape of its answer: its provider is held to a schema; it calls a tool that is nothing but
that shape; or it is told in words."""


class ToolSpec(Struct, frozen=True, kw_only=True):
    """What a model is told about a tool."""

    name: str
    description: str
    parameters: dict[str, Any]
    """A JSON Schema of type object."""


class Settings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the model should answer. Unset fields are not sent."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    """Output tokens at most."""
    reasoning_effort: str | None = None
    tool_choice: str | None = None
    """`auto`, `none`, `required`, or a tool's name."""
    parallel_calls: bool | None = None
    stop: tuple[str, ...] = ()
    cache: bool | None = None
    """Whether the provider is asked to keep the unchanging beginning of requests; None leaves it to its default."""
    continue_responses: bool | None = None
    """Whether the provider keeps its answers, so that a request is sent what is new since the last one only. OpenAI
    Responses can; others are sent everything all the same."""


class OutputSpec(Struct, frozen=True, kw_only=True):
    """The shape that the model's answer must have, for providers that can be held to one."""

    name: str
    schema: dict[str, Any]
    """A JSON Schema of type object."""
    strict: bool = True


class Previous(Struct, frozen=True, kw_only=True):
    """An answer that the provider still knows, so that a request need not repeat what led to it."""

    response_id: str
    covers: int
    """How many messages of the transcript it stands for, the answer itself included."""


class Transcript(Sequence[Message]):
    """The messages of a request. It only grows, so each message is encoded once per wire protocol and kept."""

    __slots__ = ("_encoded", "_messages")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages: list[Message] = list(messages)
        self._encoded: dict[str, list[bytes]] = {}

    def extend(self, messages: Iterable[Message]) -> None:
        """Add messages at the end."""
        self._messages.extend(messages)

    def encoded(self, wire: str, encode: Callable[[Message], bytes]) -> list[bytes]:
        """Each message's bytes under this protocol; only messages not seen before are encoded."""
        done = self._encoded.setdefault(wire, [])
        if len(done) < len(self._messages):
            done.extend([encode(message) for message in self._messages[len(done) :]])
        return done

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        return self._messages[index]

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)


class Request(Struct, frozen=True, kw_only=True):
    """Everything one model call depends on."""

    model: str
    """The provider's own name of the model, without the vendor."""
    messages: Transcript
    instructions: str = ""
    tools: tuple[ToolSpec, ...] = ()
    settings: Settings = Settings()
    stream: bool = True
    metadata: dict[str, str] = field(default_factory=dict)
    output: OutputSpec | None = None
    previous: Previous | None = None
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    """The bytes of images and documents by digest, as far as they could be had; a driver tells the model of others in
    words."""


class Reply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole answer. Ids of the message and its calls are given by the loop, so a driver may leave them empty."""

    message: Message
    stop: StopReason
    usage: Usage = Usage()
    model: str = ""
    """The model that answered, as the provider names it."""
    response_id: str = ""


class Cost(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a reply costs."""

    amount: Decimal
    """US dollars, exact."""
    price_date: date | None = None
    """Of which day the prices are, where that is known."""


Price = Callable[[Reply, datetime], Cost | None]
"""What a reply at this instant costs; None when that is not known."""


class Driver(Protocol):
    """Speaks one model protocol. `wire` names the protocol; one driver serves any number of turns at once.

    A driver may say where its requests go, as `host`: then a reply is charged at the prices of who answers there, and
    has no known cost when nobody is known to. Without it, the vendor in the model's name tells. It may say, as
    `answers_by` (an `AnswersBy`), how a model is told the shape of a typed answer; without it that is a tool.

    A driver may describe itself, with `describe() -> dict`: plain data of what in it changes behaviour (where it goes,
    its options), always the same, and without any credential. It is part of the digest of each manifest with it.
    """

    wire: str

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Send the request and return the whole answer, streaming its pieces to `emit` on the way.

        Raises `DriverError`. Cancelling closes the connection at once. A stream that ends without its terminal
        event is a `broken_stream`, never a completion.
        """
        ...

    def encode(self, request: Request) -> bytes:
        """The exact body that `reply` would send, for `session.inspect()`. Sends nothing, needs no credential."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
