"""A session: one log, and what an application does with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar, overload

from holdfast.accounts import Accounts, check_by, exact
from holdfast.asking import Scope
from holdfast.drift import OnDrift, may_resume
from holdfast.errors import ConfigError
from holdfast.events import Event
from holdfast.facts.asks import AskOpened, Grant
from holdfast.facts.deliveries import Owed
from holdfast.handle import Turn, TurnResult
from holdfast.manifest import Manifest
from holdfast.messages import Content, Document, Image, Message, ToolResult
from holdfast.runner import Runner
from holdfast.services import FILES, Files
from holdfast.shape import shape_of
from holdfast.standing import BudgetStanding, named, standing
from holdfast.state import State
from holdfast.turn.fit import Shapes
from holdfast.turn.prompt import Inspection, inspect
from holdfast.turn.saying import Said, as_text
from holdfast.turn.tell import (
    accept,
    answer,
    attach,
    compact,
    go_on,
    raise_limit,
    resolve,
    revoke,
    steer,
    update,
)
from holdfast.turn.tell import rerun as run_again
from holdfast.watching.filters import Filter

T = TypeVar("T")

POLL = 0.25
"""Seconds between looks at the log while following a session that another process may be writing."""


class Session:
    """A conversation and its log. Get one from `runtime.session()` or `runtime.open()`; make none yourself."""

    def __init__(self, runner: Runner) -> None:
        self._journal = runner.journal
        self._runner = runner

    @property
    def id(self) -> str:
        """`session_…`"""
        return self._journal.state.session_id

    @property
    def state(self) -> State:
        """What follows from the log. Read it; do not change it."""
        return self._journal.state

    def as_filter(self) -> Filter:
        """What a subscription to it is given."""
        return Filter(sessions=(self.id,))

    @property
    def files(self) -> Files:
        """The session's workspace."""
        return self._journal.scope[FILES]

    @property
    def turn(self) -> Turn | None:
        """The turn under way, if there is one."""
        turn = self._journal.state.turn
        return Turn(turn.id, self._runner) if turn is not None else None

    def handle(self, turn_id: str) -> Turn:
        """The handle of a turn of this session by its id: of one that waits in line, too, or that ended long ago."""
        return Turn(turn_id, self._runner)

    def __repr__(self) -> str:
        return f"Session({self.id!r}, {self.state.sequence} events)"

    @overload
    async def send(self, content: Content, *, key: str = "") -> Turn: ...
    @overload
    async def send(
        self, content: Content, *, key: str = "", output: type[T], repairs: int = 3
    ) -> Turn[T]: ...
    @overload
    async def send(self, content: Content, *, key: str = "", output: Any, repairs: int = 3) -> Turn[Any]: ...
    async def send(
        self, content: Content, *, key: str = "", output: Any = None, repairs: int = 3
    ) -> Turn[Any]:
        """Accept an input and start its turn. When this returns, the input is durable.

        The same `key` again returns the same turn and accepts nothing. While another turn runs, the input waits.

        `output` asks for an answer of this type (msgspec struct, dataclass, TypedDict, pydantic model, union, list,
        plain type; or a JSON Schema as a dict), which is then the result's `output`. Whether an answer fits is decided
        here, whatever the provider promised; one that does not is shown to the model with all that is wrong with it,
        `repairs` times (3, at most 20), then the turn fails (`invalid_output`) and keeps the last candidate.

        Raises `InputRejected`, `ConfigError` (`OutputTypeError`), `StoreError`; then nothing was accepted.
        """
        self._runner.check_open()
        manifest = await self._runner.begins_with(key)
        since = 0 if key in self.state.keys else self.state.sequence
        shape = None if output is None else shape_of(output, repairs=repairs)
        if shape is not None:
            self._journal.derived(Shapes).know(shape)
        contract = shape.contract if shape is not None else None
        turn_id = await self._drive(accept(self._journal, manifest, content, key=key, output=contract))
        return Turn(turn_id, self._runner, since, shape)

    async def attach(self, data: bytes, *, name: str = "", media_type: str = "") -> Image | Document:
        """Keep an image or document and return the part that stands for it, to be sent as often as needed.

        What it is, is read from its bytes: PNG, JPEG, GIF and WebP make an image, anything else a document, whose
        `name` the model is told. `media_type` counts where the bytes do not tell. Raises `InputRejected` for an image
        that is not one or has more than 20 MiB or 8,000 pixels a side, a document of more than 32 MiB, and bytes
        of which nothing is known.
        """
        self._runner.check_open()
        return await attach(self._journal, data, name=name, media_type=media_type)

    async def steer(self, content: Content, *, key: str = "") -> Turn:
        """Say something to the turn under way: it enters before the next model call. Several count as one.

        Durable when this returns. Without a turn under way this is `send`; one that ends before it could listen leaves
        the input to a turn of its own. Raises what `send` raises.
        """
        self._runner.check_open()
        manifest = await self._runner.begins_with(key)
        since = self.state.sequence
        turn_id = await self._drive(steer(self._journal, manifest, content, key=key))
        return Turn(turn_id, self._runner, since if self.state.turn is None else 0)

    @overload
    async def run(self, content: Content, *, key: str = "") -> TurnResult: ...
    @overload
    async def run(
        self, content: Content, *, key: str = "", output: type[T], repairs: int = 3
    ) -> TurnResult[T]: ...
    @overload
    async def run(
        self, content: Content, *, key: str = "", output: Any, repairs: int = 3
    ) -> TurnResult[Any]: ...
    async def run(
        self, content: Content, *, key: str = "", output: Any = None, repairs: int = 3
    ) -> TurnResult[Any]:
        """`send`, then wait for the turn to come to rest."""
        turn: Turn[Any] = await self.send(content, key=key, output=output, repairs=repairs)
        return await turn

    async def update(self, *, title: str | None = None, metadata: dict[str, str] | None = None) -> None:
        """Change the title or the metadata. Raises `InputRejected`, `StoreError`."""
        self._runner.check_open()
        await self._drive(update(self._journal, title=title, metadata=metadata))

    @property
    def asks(self) -> tuple[AskOpened, ...]:
        """Questions that wait for somebody, the oldest first."""
        return tuple(self.state.asks.values())

    async def approve(
        self,
        ask_id: str,
        *,
        by: str,
        reason: str = "",
        arguments: Any = None,
        scope: Scope = "call",
        until: datetime | None = None,
        key: str = "",
    ) -> None:
        """Let the call that this ask is about run. `by` says who agreed, and is not the agent.

        With `arguments` (a dict, a struct, or JSON text) it runs with those instead; the model is told. With a `scope`
        the answer holds for further asks: of this `session`, of this `tool`, or of this tool with arguments like these
        (`{"to": "*@example.com"}`), `until` then (for ever), as long as tool, hooks and policies stay as they are; see
        `grants`. The same answer again, by the same principal and under the same `key`, does nothing.

        Raises `UnknownAsk` (`AskClosed`) when it is not open, `AnswerForbidden` when `by` may not answer,
        `AnswerRejected` when the arguments do not fit, `InputRejected` for text that no log can hold, `UsageError` for
        a scope or a time that makes no sense.
        """
        said = Said(
            verdict="approved",
            by=by,
            reason=reason,
            arguments=None if arguments is None else as_text(arguments),
            scope=scope,
            until=until,
            key=key,
        )
        await self._say(ask_id, said)

    async def deny(
        self,
        ask_id: str,
        *,
        by: str,
        reason: str = "",
        scope: Scope = "call",
        until: datetime | None = None,
        key: str = "",
    ) -> None:
        """Refuse what is asked, whatever it is; the model reads the reason. Raises what `approve` does."""
        said = Said(verdict="denied", by=by, reason=reason, scope=scope, until=until, key=key)
        await self._say(ask_id, said)

    async def answer(self, ask_id: str, text: str, *, by: str, key: str = "") -> None:
        """Answer a question of the model. Raises what `approve` does; `AnswerRejected` for none of the options."""
        await self._say(ask_id, Said(verdict="answered", by=by, value=text, key=key))

    async def submit(
        self, ask_id: str, result: Any = None, *, by: str, error: str = "", key: str = ""
    ) -> None:
        """Hand in the result of a call that is carried out elsewhere, or say by which `error` it has none.

        Raises what `approve` does; `AnswerRejected` when it is not what the tool says that it returns.
        """
        await self._say(ask_id, Said(verdict="answered", by=by, value=result, error=error, key=key))

    @property
    def grants(self) -> tuple[Grant, ...]:
        """Answers that hold for further asks now, the oldest first."""
        now = self._journal.present()
        return tuple(it for it in self.state.grants.values() if it.until is None or now < it.until)

    async def revoke(self, grant_id: str, *, by: str, reason: str = "") -> None:
        """End a grant: from here on it is asked again. Raises `UnknownGrant`, `AnswerForbidden`."""
        self._runner.check_open()
        await self._drive(revoke(self._journal, await self._names(), grant_id, by=by, reason=reason))

    async def _say(self, ask_id: str, said: Said) -> None:
        self._runner.check_open()
        if self._journal.fresh or not self._journal.ours:
            await self._runner.collect()  # an answer that was left here before this one came first
        await self._drive(answer(self._journal, await self._names(), ask_id, said))

    async def _names(self) -> Manifest | None:
        """What says how the agent's side of this session is called, as far as it can be had here."""
        with suppress(ConfigError):
            return await self._runner.manifest()
        return None

    @property
    def deliveries(self) -> tuple[Owed, ...]:
        """Output that has not been delivered: owed, in doubt, failed for good, or denied."""
        return tuple(self.state.deliveries.values())

    @property
    def in_doubt(self) -> tuple[ToolResult, ...]:
        """Calls that were cut off and may have had their effect, of which nobody has said yet what became of them."""
        return tuple([doubt.result for doubt in self.state.doubts.values() if doubt.result is not None])

    async def resolve(
        self, call_id: str, *, by: str, result: Any = None, rerun: bool = False, reason: str = ""
    ) -> Turn | None:
        """Say what became of a call in doubt. `by` says who knows.

        `result` is what the model reads from its next turn on, as if the tool had returned it. With `rerun` the call
        is run again instead, with the same key, in a turn of its own that asks no model: that turn is returned.
        Raises `UnknownCall` when the call is not in doubt, `UsageError` unless exactly one of both is given.
        """
        self._runner.check_open()
        if not rerun or result is not None:
            said = None if rerun else result
            await self._drive(resolve(self._journal, call_id, said, by=by, reason=reason))
            return None
        manifest, since = await self._runner.begins_with(), self.state.sequence
        turn_id = await self._drive(run_again(self._journal, manifest, call_id, by=by, reason=reason))
        return Turn(turn_id, self._runner, since)

    async def _drive(self, accepting: Awaitable[T]) -> T:
        """Wait until this is accepted, and drive what follows from it even if the caller is cancelled meanwhile."""
        try:
            accepted = await accepting
        except asyncio.CancelledError:
            if self._journal.ours and self._journal.broken is None:
                self._runner.start()
            raise
        if self._journal.ours:
            self._runner.start()
        else:  # it was left in a letter; whoever it is for may just have finished
            await self._runner.collect()
        return accepted

    async def compact(self, *, by: str) -> None:
        """Have the beginning of the transcript summarised before the next model call, whatever its length; `by` says
        who wants it. Without the `compaction` capability it is done by the rules that one has by default.

        Durable when this returns. The log keeps every message, and only what the model is told changes. Raises
        `InputRejected`, `StoreError`.
        """
        self._runner.check_open()
        await self._drive(compact(self._journal, by=by))

    async def messages(self, *, before: int | None = None, limit: int | None = None) -> list[Message]:
        """The transcript: inputs, replies and results, in order.

        A page of it is the last `limit` messages before message number `before` (counted from 0; None: the end). Their
        numbers end at `before - 1`, so the page before it is `messages(before=before - limit, limit=limit)`.
        """
        stop = len(self.state.places) if before is None else max(before, 0)
        start = 0 if limit is None else max(stop - limit, 0)
        if self.state.places and self._journal.ours:
            await self._journal.flush()
        return await self._journal.history.page(self.state, start, stop)

    async def budgets(self) -> tuple[BudgetStanding, ...]:
        """Where each budget that bounds this session stands now; those of its principal and organisation, too."""
        return await standing(self._journal, await self._runner.manifest())

    async def raise_budget(self, name: str, amount: Decimal | int, *, by: str) -> None:
        """Let this budget have so much more (less than 0 takes it away); a turn that waits for that goes on.

        One of a turn or the session counts in this session from now on. One of the principal or the organisation counts
        on their account, in its present window, and so for everybody. Raises `UnknownBudget`, `UsageError`.
        """
        self._runner.check_open()
        check_by(by)
        more, budget = exact(amount), named(name, await self._runner.manifest())
        if budget.shared:
            (found,) = [it for it in await self.budgets() if it.name == name]
            await Accounts(self._journal.store, self._journal.now).raise_limit(found.account, more, by=by)
            await self._runner.collect()
        else:
            await self._drive(raise_limit(self._journal, name, more, by=by))

    @property
    def message_count(self) -> int:
        """How many messages the transcript has."""
        return len(self.state.places)

    async def events(self, after: int = 0, *, limit: int = 1_000) -> list[Event]:
        """Recorded events with a sequence above `after`, at most `limit`: what a reader that missed some reads."""
        return await self._journal.store.read(self.id, after=after, limit=limit)

    async def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """Every event above `after`, in order and without a gap: first from the log, then as they are recorded, by
        this process or another. Does not end by itself."""
        follower = self._journal.follow(after=after)
        try:
            while True:
                item = await follower.within(POLL)
                if item is None:
                    await follower.look()
                elif isinstance(item, Event):
                    yield item
        finally:
            follower.close()

    async def refresh(self) -> State:
        """Take in what another process has written since; what follows from the log now. Raises `StoreError`."""
        await self._journal.refresh()
        return self.state

    async def inspect(self, content: Content | None = None) -> Inspection:
        """The request that would be sent next, after `content` if any. Sends nothing and records nothing."""
        await self._journal.history.recall(self.state)
        return await inspect(self.state, content, await self._runner.manifest(), self._journal.store)

    async def resume(self, *, by: str = "", on_drift: OnDrift | None = None) -> Turn | None:
        """Go on with whatever the log says is owed; the turn under way, if there is one.

        A parked turn, cut off too often without progress, goes on only when `by` says who wants that. `on_drift` says
        what becomes of this turn where its manifest has changed, whatever the runtime says; it needs `by`, too.
        Raises `SessionHeld` while another process is at work on it, `ManifestDrifted`.
        """
        await may_resume(self._runner, by, on_drift)
        asked = self.state.asks or (self.state.turn is not None and self.state.turn.exceeded is not None)
        if await go_on(self._journal, await self._names() if asked else None, by=by):
            await self._runner.collect()
            self._runner.start()
        return self.turn
