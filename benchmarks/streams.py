"""What a file comes to when answers are streamed slowly, so that their words are on it before the message is."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from unittest.mock import patch

from benchmarks.calculator import QUESTION, Calculator
from benchmarks.figures import Effort, Figure
from benchmarks.timing import folder
from holdfast import Agent, Reply, Request, Runtime
from holdfast.driver import Emit
from holdfast.events import OutputMessageShown, encode_event
from holdfast.messages import Message, Text
from holdfast.turn import watch

FASTER = 10
"""How much faster time runs here: an answer of ten seconds takes one."""
A_SECOND = 80
"""Words that a model streams, in one."""
SESSIONS = 20


class Speaker(Calculator):
    """Says `words` words, as fast as models do."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self._words = words

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Stream an answer of pseudo-random words."""
        some, loop = random.Random(0), asyncio.get_running_loop()
        began, pieces = loop.time(), []
        for number in range(1, self._words + 1):
            pieces.append(some.choice(("the", "ledger", "was", "balanced", "by", "evening")) + " ")
            emit("text", pieces[-1], 0)
            due = began + number / A_SECOND / FASTER
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
        message = Message(id="", role="assistant", content=(Text(text="".join(pieces)),))
        return Reply(message=message, stop="end_turn")


async def streamed(effort: Effort) -> list[Figure]:
    """Sessions of one answer that streams for `speech` seconds. Content leaves out what is kept while it does."""
    agent = Agent("You talk.", model=Speaker(round(effort.speech * A_SECOND)))
    with (
        folder() as place,
        patch.object(watch, "KEPT_WITHIN", watch.KEPT_WITHIN / FASTER),
        patch.object(watch, "KEPT_AT_LAST", watch.KEPT_AT_LAST / FASTER),
    ):
        path = place / "streams.db"
        async with Runtime(path) as runtime:
            sessions = [await runtime.session(agent) for _ in range(SESSIONS)]
            await asyncio.gather(*(session.run(QUESTION) for session in sessions))
        stored = sum(part.stat().st_size for part in place.iterdir())
        content, kept = await _content(path, [session.id for session in sessions], agent)
    return [
        Figure(workload="w2", name="storage / content, streamed", unit="×", values=(stored / content,)),
        Figure(
            workload="w2", name="storage / log, streamed", unit="×", values=(stored / (content + sum(kept)),)
        ),
        Figure(workload="w2", name="kept while it streams", unit="events", values=(len(kept) / SESSIONS,)),
    ]


async def _content(path: Path, session_ids: list[str], agent: Agent) -> tuple[int, list[int]]:
    """Bytes of the events as JSON lines, without those of half an answer; and of each of these."""
    size, kept = 0, list[int]()
    async with Runtime(path) as runtime:
        for session_id in session_ids:
            session = await runtime.open(session_id, agent, read_only=True)
            for event in await session.events():
                line = len(encode_event(event)) + 1
                if isinstance(event.data, OutputMessageShown):
                    kept.append(line)
                else:
                    size += line
    return size, kept
