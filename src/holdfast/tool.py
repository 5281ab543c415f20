"""Tools: functions that a model may ask for.

    @tool(effect="once", timeout=20)
    async def refund(ctx: Context, order_id: str, cents: int) -> Receipt:
        '''Refund an order.'''

Effect classes say what happens to a call that was cut off after it was dispatched (the process died, so nobody
knows whether the effect took place):

    pure        it has no effect: run it again
    idempotent  the same `ctx.call.key` twice has one effect: run it again with the same key
    reconcile   the tool's own `reconcile` function is asked by key what became of it
    once        it is settled `in_doubt`, the model is told, and it is never run again by itself (the default)
"""

from __future__ import annotations

import asyncio
import inspect
import re
import typing
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import copy_context
from functools import cached_property
from threading import Thread
from typing import Any, Literal, get_args, overload

from msgspec import UNSET, Struct

from holdfast.asking import AskFor, Client
from holdfast.driver import ToolSpec
from holdfast.errors import ToolSignatureError, UsageError
from holdfast.events import Effect
from holdfast.schema import Parameters, parameters_of, problems_with, schema_of_result, summary_of
from holdfast.services import Key, Scope
from holdfast.store import Database
from holdfast.stragglers import outlives


class SessionInfo(Struct, frozen=True, kw_only=True):
    """The session a call belongs to."""

    id: str
    title: str = ""
    metadata: dict[str, str] = {}


class Call(Struct, frozen=True, kw_only=True):
    """The call being carried out."""

    id: str
    key: str
    """Stable across crash, retry and replay; hand it to foreign systems as their idempotency key."""
    name: str
    attempt: int
    """1 for the first run; higher after a cut-off."""
    turn_id: str


Lend = Callable[[], AbstractAsyncContextManager[Database]]
"""What `ctx.transaction()` asks for the call's transaction."""


class Context(Struct, frozen=True, kw_only=True):
    """The five things a tool is handed."""

    session: SessionInfo
    call: Call
    scope: Scope
    progress: Callable[[str], None]
    """`ctx.progress("half way")` is shown live and not stored."""
    output: Callable[[str], None]
    """`ctx.output(text)` streams output live; what the tool returns is what the model reads."""
    _transaction: Lend | None = None

    def transaction(self) -> AbstractAsyncContextManager[Database]:
        """A transaction in the database of the log, committed together with this call's outcome: exactly once.

            async with ctx.transaction() as db:
                await db.execute("UPDATE accounts SET cents = cents - ? WHERE name = ?", cents, name)

        It begins with the first statement, and is committed not at the end of the block but with the outcome, in one
        transaction; it is rolled back when an exception leaves the block, or when the outcome is not `ok`. Declare such
        a tool `idempotent`. While it is open in SQLite nobody else can write to the file, so it has four seconds, and
        two between statements. One a call. Raises `TransactionUnsupported` where the log is in no such database,
        `UsageError` for a second one.
        """
        if self._transaction is None:
            raise UsageError("only a tool that the runtime runs has a transaction, not one called by hand")
        return self._transaction()


class NotDone:
    """A reconcile function returns `NOT_DONE` to say that the call had no effect and may run."""

    def __repr__(self) -> str:
        return "NOT_DONE"


NOT_DONE = NotDone()
"""What a reconcile function returns for a call that had no effect and may run."""

_NAME = re.compile("[A-Za-z0-9_-]{1,64}")

Label = Literal["private", "untrusted", "outbound"]
"""What a tool brings into a session, or takes out of it: it reads private data; what it returns was written by
strangers; it sends something out, if only the address of a page."""

Ask = bool | AskFor | Callable[[Any], bool | str | AskFor]
"""Whether a person must agree first: always, or when this says so of the arguments (a text is the reason). `AskFor`
also says who may, until when, and what happens then."""


class Tool(Struct, frozen=True, kw_only=True, dict=True):
    """A function with what the runtime must know about it. Make one with `@tool`, or from a raw JSON Schema."""

    name: str
    description: str
    parameters: Parameters
    run: Callable[[Context, Any], Awaitable[Any]]
    """Called with the context and the checked arguments."""
    effect: Effect = "once"
    timeout: float | None = None
    """Seconds; None takes the manifest's `tool_timeout`."""
    lane: str = ""
    """Calls that share a lane run one after another."""
    ask: Ask = False
    reconcile: Callable[[Context], Awaitable[Any]] | None = None
    needs: tuple[Key[Any], ...] = ()
    """Services this tool takes from the scope."""
    client: Client | None = None
    """Set when it is not run here: the application, or a person, hands in its result."""
    labels: tuple[Label, ...] = ()
    """For the taint rule: what it brings into a session, and whether it sends anything out."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ToolSignatureError(
                f"{self.name!r} cannot be a tool's name: providers take 1 to 64 letters, digits, _ and -; give name="
            )
        if self.effect == "reconcile" and self.reconcile is None:
            raise ToolSignatureError(
                f"tool {self.name!r}: effect 'reconcile' needs reconcile=, an async function that says by "
                "ctx.call.key what became of a call"
            )
        if wrong := [str(it) for it in self.labels if it not in get_args(Label)]:
            raise ToolSignatureError(
                f"tool {self.name!r}: no label {', '.join(wrong)}; there are {', '.join(get_args(Label))}"
            )

    @cached_property
    def spec(self) -> ToolSpec:
        """As a driver advertises it."""
        return ToolSpec(name=self.name, description=self.description, parameters=self.parameters.schema)

    def describe(self) -> dict[str, Any]:
        """What of this tool changes behaviour, as plain data, for the manifest's digest."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters.schema,
            "effect": self.effect,
            "timeout": self.timeout,
            "lane": self.lane,
            "ask": self.ask if isinstance(self.ask, bool | AskFor) else "function",
            **({"client": self.client.describe()} if self.client is not None else {}),
            **({"labels": sorted(set(self.labels))} if self.labels else {}),
        }


Function = Callable[..., Any]


@overload
def tool(function: Function, /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    effect: Effect = "once",
    timeout: float | None = None,
    lane: str = "",
    ask: Ask = False,
    reconcile: Callable[[Context], Awaitable[Any]] | None = None,
    needs: tuple[Key[Any], ...] = (),
    client: bool | AskFor = False,
    labels: tuple[Label, ...] = (),
) -> Callable[[Function], Tool]: ...
def tool(function: Function | None = None, /, **options: Any) -> Tool | Callable[[Function], Tool]:
    """Make a tool of a function. Its schema comes from the signature, its description from the docstring.

    A parameter annotated `Context` receives the context. A plain `def` runs in a thread. Options: `name` (the
    function's), `effect` ("once"), `timeout` in seconds, `lane`, `ask`, `reconcile`, `needs`, `client`,
    `labels`.

    With `client` the function is never run: its signature says what the model calls and what the application answers
    with `session.submit(...)`. `AskFor` also says who may, until when, and what happens then.
    Raises `ToolSignatureError` when the signature has no schema.
    """
    if function is None:
        return lambda it: _make(it, **options)
    return _make(function, **options)


def _make(
    function: Function, *, name: str | None = None, client: bool | AskFor = False, **options: Any
) -> Tool:
    if not inspect.isroutine(function):
        raise ToolSignatureError(
            f"{function!r} is not a function; @tool takes a function with typed parameters"
        )
    context = _context_parameter(function)
    name = name or function.__name__
    return Tool(
        name=name,
        description=summary_of(inspect.getdoc(function) or ""),
        parameters=parameters_of(function, skip=context),
        run=_runner(function, context),
        client=_client(name, function, client),
        **options,
    )


def _client(name: str, function: Function, client: bool | AskFor) -> Client | None:
    """What is said of a tool that the application carries out. Raises `ToolSignatureError` for a wrong default."""
    if client is False:
        return None
    terms = AskFor(reason="") if client is True else client
    try:
        terms.check_zone()
    except ValueError as error:
        raise ToolSignatureError(f"tool {name!r}: {error}") from error
    schema = schema_of_result(function)
    if terms.default is not None and schema and (found := problems_with(schema, terms.default)):
        raise ToolSignatureError(f"tool {name!r}: the default is no result of it: {'; '.join(found)}")
    return Client(terms=terms, schema=schema)


def _context_parameter(function: Function) -> str | None:
    try:
        hints = typing.get_type_hints(function)
    except (NameError, AttributeError, SyntaxError, TypeError):
        return None  # parameters_of says what is wrong
    return next((name for name, kind in hints.items() if kind is Context and name != "return"), None)


def _runner(function: Function, context: str | None) -> Callable[[Context, Any], Awaitable[Any]]:
    def keywords(ctx: Context, arguments: Struct) -> dict[str, Any]:
        given = {
            name: value
            for name in arguments.__struct_fields__
            if (value := getattr(arguments, name)) is not UNSET
        }
        if context:
            given[context] = ctx
        return given

    if inspect.iscoroutinefunction(function):
        return lambda ctx, arguments: function(**keywords(ctx, arguments))

    def call(ctx: Context, arguments: Struct) -> Any:
        try:
            return function(**keywords(ctx, arguments))
        except StopIteration as error:  # the one exception that a future does not take
            raise RuntimeError("the function raised StopIteration") from error

    return lambda ctx, arguments: _in_thread(function, keywords(ctx, arguments))


_STOPPED = RuntimeError("the function raised StopIteration, which no task can pass on")


async def _in_thread(function: Function, given: dict[str, Any]) -> Any:
    """Call a plain function in a thread of its own.

    One that hangs holds up nobody: not other calls, as in a pool, and not the end of the process. Cancelling stops the
    wait for it, and not the function.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if answer.done():
            return  # nobody waits any more
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(_STOPPED if isinstance(error, StopIteration) else error)

    def work() -> None:
        value, failure = None, None
        try:
            value = context.run(function, **given)
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, value, failure)

    Thread(target=work, name=f"tool {function.__name__}", daemon=True).start()
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        if not answer.done():
            outlives(answer)
        raise
