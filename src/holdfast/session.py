"""A session: one log, and what an application does with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from holdfast.events import Event, SessionUpdated, TurnRecovered
from holdfast.handle import Turn, TurnResult
from holdfast.messages import Message
from holdfast.runner import Runner
from holdfast.services import FILES, Files
from holdfast.state import State
from holdfast.turn.input import Content, accept, answer, check_metadata, check_text, input_message, steer
from holdfast.turn.prompt import Inspection, inspect

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

    def __repr__(self) -> str:
        return f"Session({self.id!r}, {self.state.sequence} events)"

    async def send(self, content: Content, *, key: str = "") -> Turn:
        """Accept an input and start its turn. When this returns, the input is durable.

        The same `key` again returns the same turn and accepts nothing. While another turn runs, the input waits.
        Raises `InputRejected`, `ConfigError`, `StoreError`; then nothing was accepted.
        """
        self._runner.check_open()
        message = input_message(content)
        manifest = await self._runner.manifest()
        since = 0 if key in self.state.keys else self.state.sequence
        turn_id = await self._drive(accept(self._journal, manifest, message, key=key))
        return Turn(turn_id, self._runner, since)

    async def steer(self, content: Content, *, key: str = "") -> Turn:
        """Say something to the turn under way: it enters before the next model call. Several count as one.

        Durable when this returns. Without a turn under way this is `send`; one that ends before it could listen leaves
        the input to a turn of its own. Raises what `send` raises.
        """
        self._runner.check_open()
        message = input_message(content)
        manifest = await self._runner.manifest()
        since = self.state.sequence
        turn_id = await self._drive(steer(self._journal, manifest, message, key=key))
        return Turn(turn_id, self._runner, since if self.state.turn is None else 0)

    async def run(self, content: Content, *, key: str = "") -> TurnResult:
        """`send`, then wait for the turn to come to rest."""
        return await (await self.send(content, key=key))

    async def update(self, *, title: str | None = None, metadata: dict[str, str] | None = None) -> None:
        """Change the title or the metadata. Raises `InputRejected`, `StoreError`."""
        self._runner.check_open()
        check_text(title=title or "")
        check_metadata(metadata or {})
        await self._journal.own()
        await self._journal.record(SessionUpdated(title=title, metadata=metadata))

    async def approve(self, ask_id: str, *, by: str, reason: str = "") -> None:
        """Let the call that this ask is about run. `by` says who agreed. Raises `UnknownAsk` when it is not open."""
        self._runner.check_open()
        await self._drive(answer(self._journal, ask_id, "approved", by=by, reason=reason))

    async def deny(self, ask_id: str, *, by: str, reason: str = "") -> None:
        """Refuse the call that this ask is about; the model reads the reason. Raises `UnknownAsk` when not open."""
        self._runner.check_open()
        await self._drive(answer(self._journal, ask_id, "denied", by=by, reason=reason))

    async def _drive(self, accepting: Awaitable[T]) -> T:
        """Wait until this is accepted, and drive what follows from it even if the caller is cancelled meanwhile."""
        try:
            accepted = await accepting
        except asyncio.CancelledError:
            if self._journal.epoch and self._journal.broken is None:
                self._runner.start()
            raise
        self._runner.start()
        return accepted

    async def messages(self) -> list[Message]:
        """The transcript: inputs, replies and results, in order."""
        if self.state.messages:
            await self._journal.flush()
        return list(self.state.messages)

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
        upcoming = [] if content is None else [input_message(content)]
        return inspect(self.state, upcoming, await self._runner.manifest())

    async def resume(self, *, by: str = "") -> Turn | None:
        """Go on with whatever the log says is owed; the turn under way, if there is one.

        A parked turn, cut off too often without progress, goes on only when `by` says who wants that.
        Raises `SessionHeld` while another process is at work on it.
        """
        await self._journal.own()
        if by and self.state.turn is not None and self.state.turn.parked:
            check_text(by=by)
            await self._journal.record(TurnRecovered(by=by))
        if self.state.turn is not None or self.state.queue:
            self._runner.start()
        return self.turn
