"""A session: one log, and what an application does with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from holdfast.events import Event
from holdfast.handle import Turn, TurnResult
from holdfast.messages import Content, Document, Image, Message, ToolResult
from holdfast.runner import Runner
from holdfast.services import FILES, Files
from holdfast.state import State
from holdfast.turn.prompt import Inspection, inspect
from holdfast.turn.tell import accept, answer, attach, go_on, resolve, steer, update
from holdfast.turn.tell import rerun as run_again

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

    async def send(self, content: Content, *, key: str = "") -> Turn:
        """Accept an input and start its turn. When this returns, the input is durable.

        The same `key` again returns the same turn and accepts nothing. While another turn runs, the input waits.
        Raises `InputRejected`, `ConfigError`, `StoreError`; then nothing was accepted.
        """
        self._runner.check_open()
        manifest = await self._runner.begins_with()
        since = 0 if key in self.state.keys else self.state.sequence
        turn_id = await self._drive(accept(self._journal, manifest, content, key=key))
        return Turn(turn_id, self._runner, since)

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
        manifest = await self._runner.begins_with()
        since = self.state.sequence
        turn_id = await self._drive(steer(self._journal, manifest, content, key=key))
        return Turn(turn_id, self._runner, since if self.state.turn is None else 0)

    async def run(self, content: Content, *, key: str = "") -> TurnResult:
        """`send`, then wait for the turn to come to rest."""
        return await (await self.send(content, key=key))

    async def update(self, *, title: str | None = None, metadata: dict[str, str] | None = None) -> None:
        """Change the title or the metadata. Raises `InputRejected`, `StoreError`."""
        self._runner.check_open()
        await self._drive(update(self._journal, title=title, metadata=metadata))

    async def approve(self, ask_id: str, *, by: str, reason: str = "") -> None:
        """Let the call that this ask is about run. `by` says who agreed. Raises `UnknownAsk` when it is not open."""
        self._runner.check_open()
        await self._drive(answer(self._journal, ask_id, "approved", by=by, reason=reason))

    async def deny(self, ask_id: str, *, by: str, reason: str = "") -> None:
        """Refuse the call that this ask is about; the model reads the reason. Raises `UnknownAsk` when not open."""
        self._runner.check_open()
        await self._drive(answer(self._journal, ask_id, "denied", by=by, reason=reason))

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
        while True:
            follower = self._journal.follow()
            try:
                while page := await self.events(after):
                    for event in page:
                        yield event
                    after = page[-1].sequence
                await follower.first(POLL)
            finally:
                follower.close()

    async def inspect(self, content: Content | None = None) -> Inspection:
        """The request that would be sent next, after `content` if any. Sends nothing and records nothing."""
        await self._journal.history.recall(self.state)
        return await inspect(self.state, content, await self._runner.manifest(), self._journal.store)

    async def resume(self, *, by: str = "") -> Turn | None:
        """Go on with whatever the log says is owed; the turn under way, if there is one.

        A parked turn, cut off too often without progress, goes on only when `by` says who wants that.
        Raises `SessionHeld` while another process is at work on it.
        """
        if await go_on(self._journal, by=by):
            await self._runner.collect()
            self._runner.start()
        return self.turn
