"""Reason: ask the model for the next message.

A failed call is a fact like any other; `retry` says when the same request is due again.
"""

from __future__ import annotations

import asyncio

from holdfast.driver import DeltaKind
from holdfast.events import ArgumentsDelta, OutputMessageCompleted, TextDelta, ThinkingDelta, TurnSteered
from holdfast.ids import new_id
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.turn.gate import turn_refused
from holdfast.turn.prompt import Prompt, build_request, name_reply
from holdfast.turn.retry import ask_driver, failed


async def reason(journal: Journal, manifest: Manifest) -> None:
    """Ask the model once. Stages its message, or records why there is none. Raises `StoreError`."""
    turn = journal.running
    if turn.steering:
        journal.stage(TurnSteered(inputs=tuple(message.id for message in turn.steering)))
    await journal.flush()
    if (manifest.hooks or manifest.policies) and await turn_refused(journal, manifest):
        return
    message_id = new_id("message")
    request = build_request(journal.state, journal.derived(Prompt), manifest)
    watch = _Watch(journal, turn.id, message_id)
    limit: asyncio.Timeout | None = None
    try:
        if turn.deadline is None:
            reply = await ask_driver(manifest.driver, request, watch.emit)
        else:
            async with asyncio.timeout((turn.deadline - journal.now()).total_seconds()) as limit:
                reply = await ask_driver(manifest.driver, request, watch.emit)
        reply = name_reply(reply, message_id, turn)
    except Exception as error:
        if limit is None or not limit.expired():  # past its deadline, the planner ends the turn
            await journal.record(failed(error, turn, manifest, journal.now()))
        return
    journal.stage(
        OutputMessageCompleted(
            message=reply.message,
            stop=reply.stop,
            iteration=turn.iteration + 1,
            attempt=turn.attempt + 1,
            model=reply.model or manifest.model,
            response_id=reply.response_id,
            usage=reply.usage,
            duration_ms=watch.elapsed_ms(),
            first_token_ms=watch.first_token_ms,
        )
    )


class _Watch:
    """Sees each piece as it arrives: times it, and shows it to whoever looks."""

    def __init__(self, journal: Journal, turn_id: str, message_id: str) -> None:
        self._journal = journal
        self._turn_id = turn_id
        self._message_id = message_id
        self._now = asyncio.get_running_loop().time
        self._started = self._now()
        self.first_token_ms: int | None = None

    def elapsed_ms(self) -> int:
        return round((self._now() - self._started) * 1000)

    def emit(self, kind: DeltaKind, piece: str, index: int) -> None:
        if self.first_token_ms is None:
            self.first_token_ms = self.elapsed_ms()
        journal = self._journal
        if not journal.followed:
            return
        if kind == "text":
            journal.publish(TextDelta(turn_id=self._turn_id, message_id=self._message_id, text=piece))
        elif kind == "thinking":
            journal.publish(ThinkingDelta(turn_id=self._turn_id, message_id=self._message_id, text=piece))
        else:
            journal.publish(
                ArgumentsDelta(turn_id=self._turn_id, message_id=self._message_id, text=piece, index=index)
            )
