"""A simulated model: a TEST DOUBLE that never touches the network and is never a model.

    Sim.always("Hello.")                                the same answer to everything
    Sim.script(call("add", a=2, b=3), say("It is 5."))   one step per model call, in order
    Sim.storyboard(call("add", a=2, b=3), say("5"))      the n-th step answers a transcript with n replies in it,
                                                         so that it goes on after a restart
    Sim.rule(lambda request: say(request.messages[-1].text.upper()))

Steps stream in pieces like the real thing, take virtual time when the loop's clock is virtual, and can fail with any
`DriverError`. A script with steps left over is a failed test: use `with Sim.script(...) as sim:` or `sim.verify()`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct, structs

from holdfast.driver import AnswersBy, DeltaKind, Emit, Reply, Request, Transcript
from holdfast.errors import DriverError, DriverErrorKind
from holdfast.messages import Message, Part, StopReason, Text, Thinking, ToolCall, Usage

SOCKET_READ = 64
"""Pieces between two points where others may run: what one read of a socket would bring."""


class Step(Struct, frozen=True, kw_only=True):
    """What the simulated model does once."""

    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    error: DriverError | None = None
    error_after: int | None = None
    """Pieces to stream before the error; None fails before anything is sent."""
    pieces: tuple[str, ...] = ()
    """How the text is split while streaming; words by default."""
    delay: float = 0.0
    """Seconds before the first piece."""
    pace: float = 0.0
    """Seconds between pieces."""
    stop: StopReason | None = None
    usage: Usage = Usage()


def say(text: str, **options: Any) -> Step:
    """Answer with this text. Options are fields of `Step`: `delay`, `pace`, `pieces`, `thinking`, `stop`, `usage`."""
    return Step(text=text, **options)


def call(name: str, /, **arguments: Any) -> Step:
    """Ask for one tool call."""
    return calls((name, arguments))


def calls(*wanted: tuple[str, dict[str, Any] | str], text: str = "", **options: Any) -> Step:
    """Ask for several calls at once, each a name and its arguments (a string is sent as it is, valid JSON or not)."""
    made = [
        ToolCall(
            id="",
            name=name,
            arguments=given if isinstance(given, str) else msgspec.json.encode(given).decode(),
        )
        for name, given in wanted
    ]
    return Step(text=text, calls=tuple(made), **options)


def fail(kind: DriverErrorKind, message: str = "simulated failure", **options: Any) -> Step:
    """Fail with a `DriverError`. Options: `retry_after`, `status`, and the fields of `Step`."""
    given = {name: options.pop(name) for name in ("retry_after", "status") if name in options}
    return Step(error=DriverError(kind, message, **given), **options)


class Sim:
    """A driver that simulates a model. Make one with `always`, `script`, `storyboard` or `rule`."""

    wire = "sim"
    answers_by: AnswersBy = "schema"
    """How it is told the shape of an answer that is asked for."""

    def __init__(
        self, choose: Callable[[Request], Step | str], *, left: Callable[[], int] = lambda: 0
    ) -> None:
        self._choose = choose
        self._left = left
        self._seen: deque[tuple[Request, int]] = deque(maxlen=1_000)

    @classmethod
    def always(cls, answer: Step | str) -> Sim:
        """The same answer to every request."""
        return cls(lambda request: answer)

    @classmethod
    def script(cls, *steps: Step | str) -> Sim:
        """One step per model call, in order. A call beyond the last is an error; a step left over fails `verify`."""
        waiting = deque(steps)

        def choose(request: Request) -> Step | str:
            if not waiting:
                raise DriverError(
                    "unsupported",
                    f"the simulated model has no step left after its {len(steps)}; add one to the script",
                )
            return waiting.popleft()

        return cls(choose, left=lambda: len(waiting))

    @classmethod
    def storyboard(cls, *steps: Step | str) -> Sim:
        """The n-th step answers a transcript that holds n replies: it needs no memory and survives a restart."""

        def choose(request: Request) -> Step | str:
            place = sum(message.role == "assistant" for message in request.messages)
            if place >= len(steps):
                raise DriverError(
                    "unsupported", f"the simulated model has no step for a transcript with {place} replies"
                )
            return steps[place]

        return cls(choose)

    @classmethod
    def rule(cls, choose: Callable[[Request], Step | str]) -> Sim:
        """Whatever this function says of the request."""
        return cls(choose)

    @property
    def requests(self) -> list[Request]:
        """The last 1,000 requests, each as it was when it was sent."""
        return [
            structs.replace(request, messages=Transcript(list(request.messages)[:length]))
            for request, length in self._seen
        ]

    def verify(self) -> None:
        """Raise `AssertionError` when a script has steps left over."""
        if left := self._left():
            raise AssertionError(
                f"the simulated model was not asked often enough: {left} of its steps were not used"
            )

    def __enter__(self) -> Sim:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.verify()

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Play the next step."""
        self._seen.append((request, len(request.messages)))
        chosen = self._choose(request)
        step = Step(text=chosen) if isinstance(chosen, str) else chosen
        if step.delay:
            await asyncio.sleep(step.delay)
        if step.error is not None and step.error_after is None:
            raise step.error
        await self._stream(step, emit)
        if step.error is not None:
            raise step.error
        return Reply(
            message=Message(id="", role="assistant", content=_parts(step)),
            stop=step.stop or ("tool_calls" if step.calls else "end_turn"),
            usage=step.usage,
            model="sim",
        )

    async def _stream(self, step: Step, emit: Emit) -> None:
        for sent, (kind, piece, index) in enumerate(_pieces(step)):
            if sent == step.error_after:
                return
            emit(kind, piece, index)
            if step.pace:
                await asyncio.sleep(step.pace)
            elif sent % SOCKET_READ == SOCKET_READ - 1:
                await asyncio.sleep(0)

    def encode(self, request: Request) -> bytes:
        """The request as plain JSON; a simulated model has no wire format."""
        return msgspec.json.encode(
            {"simulated": True, "instructions": request.instructions, "messages": list(request.messages)}
        )

    async def close(self) -> None:
        """Nothing to let go of."""


def _pieces(step: Step) -> Iterable[tuple[DeltaKind, str, int]]:
    for word in _words(step.thinking):
        yield "thinking", word, 0
    for piece in step.pieces or _words(step.text):
        yield "text", piece, 0
    for index, wanted in enumerate(step.calls):
        yield "arguments", wanted.arguments, index


def _words(text: str) -> list[str]:
    return [word for word in text.replace(" ", " \0").split("\0") if word]


def _parts(step: Step) -> tuple[Part, ...]:
    parts: list[Part] = []
    if step.thinking:
        parts.append(Thinking(text=step.thinking, provider="sim"))
    text = step.text or "".join(step.pieces)
    if text:
        parts.append(Text(text=text))
    return (*parts, *step.calls)
