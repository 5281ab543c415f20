"""The other side of a session in a crash test: an application that sends, answers, waits, and comes back after a crash.

It does what the documentation tells an application to do: every input has a key, and is sent again with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from holdfast.agent import Agent
from holdfast.errors import SessionHeld
from holdfast.handle import Turn, TurnResult
from holdfast.runtime import Runtime
from holdfast.session import Session
from holdfast.testing.approver import ScriptedApprover
from holdfast.testing.clock import VirtualClock

MakeAgent = Callable[[], Agent]
"""Makes the agent anew, for one process."""
Script = Callable[[Session], Awaitable[object]]
"""What an application does with its session, after every start anew."""

TICK = 0.001
"""Virtual seconds between looks at a session that is about to go on."""


class Client:
    """Sends the inputs, or follows a script, and sees the session to its rest."""

    def __init__(self, prompt: str | Sequence[str] | Script, approver: ScriptedApprover | None) -> None:
        self._script = prompt if callable(prompt) else None
        given = [prompt] if isinstance(prompt, str) else [] if callable(prompt) else prompt
        self._inputs = {f"input {number}": text for number, text in enumerate(given, 1)}
        self._approver = approver
        self._accepted: dict[str, str] = {}
        """Turns by the key of their input, as this client was told."""
        self._told: dict[str, TurnResult] = {}
        """How turns ended, as this client was told."""
        self.session: Session | None = None
        """As the last process left it."""
        self.complaints: list[str] = []
        """What this client was told that is not so."""

    async def work(self, runtime: Runtime, agent: Agent) -> None:
        """Do everything there is to do, as if for the first time."""
        session = self.session = await session_of(runtime, agent)
        if self._script is not None:
            await self._script(session)
        turns = [await self._send(session, key) for key in self._inputs]
        await self._see_to_rest(session)
        for turn in turns:
            self._note(await turn)
        await session.messages()

    async def _send(self, session: Session, key: str) -> Turn:
        turn = await session.send(self._inputs[key], key=key)
        known = self._accepted.setdefault(key, turn.id)
        if known != turn.id:
            self.complaints.append(f"{key!r} was accepted as {known}, and is {turn.id} when it is sent again")
        return turn

    def _note(self, result: TurnResult) -> None:
        if result.stop is None:
            return
        told = self._told.setdefault(result.turn_id, result)
        if told != result:
            self.complaints.append(
                f"{result.turn_id} ended as {told.status} with {told.text!r}, and after a crash as "
                f"{result.status} with {result.text!r}"
            )

    async def _see_to_rest(self, session: Session) -> None:
        while session.state.turn is not None or session.state.due() is not None:
            turn = session.turn
            if turn is None:
                await asyncio.sleep(TICK)
            elif (await turn).status == "waiting" and not await self._answer(session):
                return

    async def _answer(self, session: Session) -> bool:
        """Answer what is asked, or wait until it is too late for that. False when there is nothing to wait for."""
        if self._approver is not None and await self._approver.answer(session):
            return True
        until = _until(session)
        if until is None:
            return False
        left = (until - VirtualClock().now()).total_seconds()
        await asyncio.sleep(max(left, TICK))
        return True


def _until(session: Session) -> datetime | None:
    """When the turn goes on by itself."""
    turn = session.state.turn
    instants = [ask.expires_at for ask in session.state.asks.values()]
    instants.append(turn.deadline if turn is not None else None)
    return min((it for it in instants if it is not None), default=None)


async def session_of(runtime: Runtime, agent: Agent) -> Session:
    """The store's one session, taken over as soon as its last writer's lease is over; a new one where there is none."""
    while heads := await runtime.sessions():
        session = await runtime.open(heads[-1].session_id, agent)
        try:
            await session.resume()
        except SessionHeld as held:
            await asyncio.sleep(held.seconds + TICK)
        else:
            return session
    return await runtime.session(agent)
