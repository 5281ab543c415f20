"""A model asked directly: one question, one answer; no session, no log, no tools that run.

completion = await Model("anthropic/claude-sonnet-5").complete("Say hello.")
async with Model("openai/gpt-5.4").stream("Tell a story.") as stream:
    async for piece in stream: ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Self

from msgspec import Struct, structs

from holdfast.catalogue import ModelInfo
from holdfast.config import DEFAULT_LIMITS, Limits, ModelRef, check_model, topmost_fields
from holdfast.driver import DeltaKind, Driver, Emit, OutputSpec, Reply, Request, Settings, ToolSpec
from holdfast.errors import DriverError, UsageError
from holdfast.ids import new_id
from holdfast.messages import Content, Message, StopReason, Usage
from holdfast.registry import Registry
from holdfast.turn.prompt import once
from holdfast.turn.retry import wait_after

Asked = Content | Sequence[Message]
"""What a model is asked: words, parts, or a whole transcript."""


class Completion(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    message: Message
    stop: StopReason
    usage: Usage
    cost: Decimal | None
    """In US dollars, exact; None where it is not known."""
    model: str
    """Who answered, as the provider names it."""
    response_id: str = ""
    attempts: int = 1

    @property
    def text(self) -> str:
        """The words of the answer."""
        return self.message.text


class Piece(Struct, frozen=True, kw_only=True, gc=False):
    """Something that streamed: a few words of the text, of a thought, or of a call's arguments."""

    kind: DeltaKind
    text: str
    index: int = 0
    """Of the call, for `arguments`."""


class Model:
    """A model to ask directly. `model` is `vendor/name`, or a driver object, which stays the caller's to close.

    `settings` count for every call. `limits` bound attempts: `model_retries` (2) and `retry_timeout` (300 s); a failure
    that may pass is tried again as in a turn, but never once a piece was streamed. Connections are kept for the block
    of `async with Model(...) as model`; without a block each call has its own, so that
    `asyncio.run(model.complete(...))` works from blocking code. Drivers of a `registry` that is given are its owner's
    to close. Raises `UnknownModel` for what is neither: several models are a route, which an agent has.
    """

    def __init__(
        self,
        model: ModelRef,
        *,
        settings: Settings | None = None,
        limits: Limits | None = None,
        registry: Registry | None = None,
    ) -> None:
        self._model = check_model(model)
        self._settings: Settings = settings or Settings()
        self._limits: Limits = topmost_fields(DEFAULT_LIMITS, limits)
        self._registry = registry or Registry()
        self._ours = registry is None
        self._users = 0

    def __repr__(self) -> str:
        return f"Model({self._model!r})"

    @property
    def info(self) -> ModelInfo | None:
        """What is known of the model: how much it takes and gives, what it can do, what it costs. See `Registry.info`.
        None where nothing is known, as of a driver object. Raises `UnknownModel`.
        """
        return self._registry.info(self._model) if isinstance(self._model, str) else None

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._let_go()

    async def complete(
        self,
        content: Asked,
        *,
        instructions: str = "",
        tools: Sequence[ToolSpec] = (),
        settings: Settings | None = None,
        output: OutputSpec | None = None,
    ) -> Completion:
        """The answer, whole. Calls that the model asks for are in its message; nobody runs them.

        Raises `DriverError` when the last attempt failed, `ConfigError` (`UnknownModel`, `MissingCredential`) and
        `InputRejected` before anything is sent.
        """
        return await self._answer(content, instructions, tools, settings, output)

    def stream(
        self,
        content: Asked,
        *,
        instructions: str = "",
        tools: Sequence[ToolSpec] = (),
        settings: Settings | None = None,
        output: OutputSpec | None = None,
    ) -> Stream:
        """The answer as it comes: enter it with `async with`, iterate, and then `await stream.completion()`.

        Reading it raises what `complete` raises, behind the pieces that came before.
        """
        return Stream(partial(self._answer, content, instructions, tools, settings, output))

    async def _answer(
        self,
        content: Asked,
        instructions: str,
        tools: Sequence[ToolSpec],
        settings: Settings | None,
        output: OutputSpec | None,
        emit: Emit | None = None,
    ) -> Completion:
        _check(tools, output)
        messages, blobs = await once(content)
        request = Request(
            model="",
            messages=messages,
            instructions=instructions,
            tools=tuple(tools),
            settings=topmost_fields(self._settings, settings),
            output=output,
            blobs=blobs,
        )
        self._users += 1
        try:
            return await self._ask(request, emit)
        finally:
            await self._let_go()

    async def _ask(self, request: Request, emit: Emit | None) -> Completion:
        if isinstance(self._model, str):
            named = self._model
            driver, name = self._registry.driver(named)
        else:
            named, driver, name = f"{self._model.wire}/", self._model, ""
        reply, attempts = await self._attempts(driver, structs.replace(request, model=name), emit)
        cost = self._registry.pricing(named, driver)(reply, datetime.now(UTC))
        return Completion(
            message=structs.replace(reply.message, id=reply.message.id or new_id("message")),
            stop=reply.stop,
            usage=reply.usage,
            cost=cost.amount if cost else None,
            model=reply.model or named,
            response_id=reply.response_id,
            attempts=attempts,
        )

    async def _attempts(self, driver: Driver, request: Request, emit: Emit | None) -> tuple[Reply, int]:
        """The reply, and which attempt brought it."""
        shown = False
        now = asyncio.get_running_loop().time
        last: float | None = None

        def show(kind: DeltaKind, text: str, index: int) -> None:
            nonlocal shown
            if emit is not None:
                shown = True
                emit(kind, text, index)

        for attempt in count(1):
            try:
                return await driver.reply(request, show), attempt
            except DriverError as error:
                last = now() + (self._limits.retry_timeout or 0.0) if last is None else last
                retries = self._limits.model_retries or 0
                wait = wait_after(error, attempt, retries=retries, seconds=last - now())
                if shown or wait is None:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("attempts are counted without end")

    async def _let_go(self) -> None:
        self._users -= 1
        if self._ours and not self._users:
            await self._registry.close()


class Stream:
    """An answer while it comes. `Model.stream` makes one; enter it with `async with`, once, and iterate.

    Leaving the block before the end stops the model: the connection is closed at once.
    """

    def __init__(self, answer: Callable[[Emit], Coroutine[Any, Any, Completion]]) -> None:
        self._answer = answer
        self._pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
        self._task: asyncio.Task[Completion] | None = None

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise UsageError("a stream is entered once; ask the model again for another answer")
        self._task = asyncio.create_task(self._answer(self._emit))
        self._task.add_done_callback(lambda done: self._pieces.put_nowait(None))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._running()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # whoever wanted to know has read to the end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        if (piece := await self._next()) is None:
            await self.completion()
            raise StopAsyncIteration
        return piece

    async def completion(self) -> Completion:
        """The whole answer, once it is there."""
        task = self._running()
        if task.cancelled():
            raise UsageError("the stream was left before its end; await completion() inside its block")
        return await asyncio.shield(task)

    async def _next(self) -> Piece | None:
        task = self._running()
        return None if task.done() and self._pieces.empty() else await self._pieces.get()

    def _running(self) -> asyncio.Task[Completion]:
        if self._task is None:
            raise UsageError("enter the stream first: async with model.stream(...) as stream")
        return self._task

    def _emit(self, kind: DeltaKind, text: str, index: int) -> None:
        self._pieces.put_nowait(Piece(kind=kind, text=text, index=index))


def _check(tools: Sequence[object], output: object) -> None:
    for it in tools:
        if not isinstance(it, ToolSpec):
            raise UsageError(
                f"{it!r:.80} is no ToolSpec; of a tool give its `spec`, since nobody runs it here"
            )
    if output is not None and not isinstance(output, OutputSpec):
        raise UsageError(
            f"output is {output!r:.80}, not an OutputSpec; session.run(..., output=...) takes a type"
        )
