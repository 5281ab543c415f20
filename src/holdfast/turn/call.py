"""One call, from its arguments to its outcome. Whatever goes wrong becomes a result that the model reads."""

from __future__ import annotations

import asyncio
from functools import partial
from threading import get_ident
from typing import Any

import msgspec
from msgspec import Struct, structs

from holdfast.errors import ToolError, WorkspaceError
from holdfast.events import Fact, ToolCompleted
from holdfast.follow import Signal, ToolOutput, ToolProgress
from holdfast.journal import Journal
from holdfast.messages import BlobRef, CallStatus, Document, Image, Text, ToolCall, ToolResult
from holdfast.schema import InvalidArguments, encode_value
from holdfast.stragglers import OutOfTime
from holdfast.tool import NOT_DONE, Call, Context, Lend, SessionInfo, Tool

CUT_OFF = (
    "In doubt: this call was started and then cut off before its outcome was recorded. It may or may not have taken "
    "effect. It was not run again. Check before you repeat it."
)
GOES_ON = (
    "In doubt: {name} {reason} told to stop, and did not. It may still be at work, and may or may not take effect. "
    "It was not run again. Check before you repeat it."
)
NOT_RUN = "Cancelled: this call was not run, because the turn ended first ({reason})."
STOPPED = "Cancelled: this call, which has no effect, was stopped because the turn ended first ({reason})."

_SHOWN = (Text, Image, Document)
_LISTS = (list, tuple)
_PARTS = msgspec.json.Decoder(tuple[Text | Image | Document, ...])


class Ready(Struct, frozen=True, kw_only=True):
    """A call that may run: known tool, checked arguments."""

    call: ToolCall
    tool: Tool
    arguments: Any
    text: str
    """The arguments as JSON text, with what hooks changed."""
    attempt: int
    note: str = ""
    """What the model must know besides the result."""
    quiet: bool = False
    """Whether nobody may see what it puts out before its result has passed the guards."""


def prepare(call: ToolCall, text: str, tools: dict[str, Tool], attempt: int) -> Ready | ToolCompleted:
    """Look the tool up and check the arguments; an outcome that says all that is wrong when they do not fit."""
    tool = tools.get(call.name)
    if tool is None:
        known = ", ".join(tools) or "(none)"
        return _not_run(call, f"Error: there is no tool {call.name!r}. Tools you can call: {known}.")
    try:
        arguments = tool.parameters.read(text or "{}")
    except InvalidArguments as error:
        listed = "\n".join(f"- {problem}" for problem in error.problems)
        return _not_run(
            call, f"Error: invalid arguments for {call.name}. Nothing was run. Problems:\n{listed}"
        )
    except Exception as error:  # a type of the user's own may check as it likes
        return _not_run(
            call, f"Error: the arguments of {call.name} cannot be read: {said(error)}. Nothing was run."
        )
    return Ready(call=call, tool=tool, arguments=arguments, text=text or "{}", attempt=attempt)


def _not_run(call: ToolCall, text: str) -> ToolCompleted:
    return ToolCompleted(result=result_of(call, text, "error"))


def plain(text: str) -> str:
    """The text as a log can hold it: a lone surrogate becomes a question mark."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def said(error: BaseException) -> str:
    """An exception in words: its type and its message."""
    try:
        return plain(f"{type(error).__name__}: {error}")
    except Exception:
        return f"{type(error).__name__}, whose message cannot be read"


def stopped_from_outside() -> bool:
    """Whether this task is being cancelled. Otherwise a `CancelledError` is a failure like any other."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def is_ours(error: BaseException) -> bool:
    """Whether what the work of others raised is meant for us: to stop, or to end. All else is a failure of that work,
    also what is no `Exception`, such as a panic of an extension module."""
    if isinstance(error, asyncio.CancelledError):
        return stopped_from_outside()
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def result_of(call: ToolCall, text: str, status: CallStatus) -> ToolResult:
    """A result in words."""
    return ToolResult(
        call_id=call.id,
        name=call.name,
        content=(Text(text=plain(text)),),
        status=status,
        provider_id=call.provider_id,
    )


async def dispatch(
    ready: Ready, journal: Journal, outbox: list[Fact], seconds: float, lend: Lend
) -> ToolResult:
    """Run the tool and say how it ended. Facts its services put into `outbox` count only when it ended well."""
    call, context = ready.call, _context(ready, journal, outbox, lend)
    run = partial(ready.tool.run, context, ready.arguments)
    try:
        value = await journal.stragglers.run(f"tool {call.name}", call.id, run, seconds)
    except OutOfTime as late:
        return _out_of_time(ready, seconds, late.stopped)
    except ToolError as error:
        return result_of(call, f"Error: {error}", "error")
    except WorkspaceError as error:
        return result_of(call, f"Error ({error.code}): {error}", "error")
    except BaseException as error:
        if is_ours(error):
            raise
        return result_of(call, f"Error: {call.name} failed: {said(error)}.", "error")
    return shown_as(call, value)


def _out_of_time(ready: Ready, seconds: float, stopped: bool) -> ToolResult:
    """The outcome of a call that took too long. While one with an effect goes on nobody knows what becomes of it."""
    call, reason = ready.call, f"took longer than {seconds:g} s and was"
    if stopped:
        return result_of(call, f"Error: {call.name} failed: it {reason} stopped.", "error")
    if ready.tool.effect == "pure":
        text = f"Error: {call.name} failed: it {reason} given up, since it did not stop."
        return result_of(call, text, "error")
    return result_of(call, GOES_ON.format(name=call.name, reason=reason), "in_doubt")


async def reconciled(ready: Ready, journal: Journal, seconds: float) -> ToolResult | None:
    """For a `reconcile` tool that was cut off: what its author's function says became of it. None: it must run."""
    ask = ready.tool.reconcile
    if ready.attempt == 1 or ready.tool.effect != "reconcile" or ask is None:
        return None
    try:
        asking = partial(ask, _context(ready, journal, []))
        value = await journal.stragglers.run(
            f"reconcile of tool {ready.call.name}", ready.call.id, asking, seconds
        )
    except BaseException as error:
        if is_ours(error):
            raise
        why = f"no answer within {seconds:g} s" if isinstance(error, OutOfTime) else said(error)
        return result_of(ready.call, f"{CUT_OFF} (Asking what became of it failed: {why})", "in_doubt")
    return None if value is NOT_DONE else shown_as(ready.call, value)


def shown_as(call: ToolCall, value: Any) -> ToolResult:
    """The result that the model reads for this value."""
    try:
        if parts := _parts_of(value):
            return ToolResult(call_id=call.id, name=call.name, content=parts, provider_id=call.provider_id)
        return result_of(call, encode_value(value), "ok")
    except Exception as error:  # what a user's type may raise while it is encoded
        reason = f"what it returned cannot be shown: {said(error)}"
        return result_of(call, f"Error: {call.name} ran, but {reason}. It may have had its effect.", "error")


def _parts_of(value: Any) -> tuple[Text | Image | Document, ...]:
    """The parts that a tool returned, read back from JSON so that they are what their types say."""
    if isinstance(value, _SHOWN):
        value = (value,)
    if not isinstance(value, _LISTS) or not all(isinstance(it, _SHOWN) for it in value):
        return ()
    return _PARTS.decode(msgspec.json.encode(value)) if value else ()


def _context(ready: Ready, journal: Journal, outbox: list[Fact], lend: Lend | None = None) -> Context:
    call, turn_id, state = ready.call, journal.context.turn_id, journal.state
    loop, here = asyncio.get_running_loop(), get_ident()

    def publish(signal: Signal) -> None:
        if ready.quiet:
            return
        if get_ident() == here:
            journal.publish(signal)
        else:  # a plain `def` runs in a thread
            loop.call_soon_threadsafe(journal.publish, signal)

    def progress(message: str) -> None:
        publish(ToolProgress(turn_id=turn_id, call_id=call.id, name=call.name, message=message))

    def output(text: str) -> None:
        publish(ToolOutput(turn_id=turn_id, call_id=call.id, name=call.name, text=text))

    return Context(
        session=SessionInfo(id=state.session_id, title=state.title, metadata=state.metadata),
        call=Call(id=call.id, key=call.id, name=call.name, attempt=ready.attempt, turn_id=turn_id),
        scope=journal.scope.for_call(call.id, outbox),
        progress=progress,
        output=output,
        _transaction=lend,
    )


def with_note(result: ToolResult, note: str) -> ToolResult:
    """The result with this note before it."""
    return structs.replace(result, content=(Text(text=note), *result.content)) if note else result


def is_long(result: ToolResult, limit: int) -> bool:
    """Whether some text may be more than `limit` bytes: a character takes four at most."""
    return any(isinstance(part, Text) and len(part.text) > limit // 4 for part in result.content)


async def limited(result: ToolResult, journal: Journal, limit: int) -> ToolResult:
    """The result with each text at most `limit` bytes; the whole of a longer one is kept as a blob."""
    content = [await _limit_part(part, journal, limit) for part in result.content]
    return ToolResult(
        call_id=result.call_id,
        name=result.name,
        content=tuple(content),
        status=result.status,
        provider_id=result.provider_id,
    )


async def _limit_part(part: Text | Image | Document, journal: Journal, limit: int) -> Text | Image | Document:
    data = part.text.encode() if isinstance(part, Text) else b""
    if len(data) <= limit:
        return part
    digest = await journal.store.put_blob(data)
    head = data[:limit].decode(errors="ignore")
    kept = BlobRef(digest=digest, size=len(data), media_type="text/plain", preview=head[:200])
    note = f"\n[cut here: {len(data):,} bytes in all, {limit:,} shown; the whole is kept as {kept.digest}]"
    return Text(text=head + note)
