"""What every workload runs: an agent that adds, and a model that answers at once.

The model looks at the last message only, so that its own cost does not grow with the session: a question gets `calls`
calls of the tool `add`, a result gets the answer. It is written against the driver contract like any driver, makes its
reply anew each time and streams it, so that what is measured is the runtime and no shortcut around it.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Literal

from holdfast import Agent, Message, Reply, Request, Runtime, Text, Tool, ToolCall, tool
from holdfast.driver import Emit

INSTRUCTIONS = "You are a calculator. Use the add tool."
QUESTION = "What is 2 + 3?"
ARGUMENTS = '{"a": 2, "b": 3}'
ANSWER = "The sum is 5."
DELTA = "tok "
READ = 64
"""Deltas that one read of a socket brings; between two reads, others may run."""

_numbers = count(1)


class Gate:
    """Holds whoever arrives until `size` have: that many sessions are then in flight at once."""

    def __init__(self, size: int) -> None:
        self.full = asyncio.Event()
        self._open = asyncio.Event()
        self._missing = size

    async def arrive(self) -> None:
        """Wait for the others."""
        self._missing -= 1
        if self._missing == 0:
            self.full.set()
        await self._open.wait()

    def open(self) -> None:
        """Let everybody go on."""
        self._open.set()


class Calculator:
    """The model. `calls` is how many calls a question gets; with `deltas` it streams that many pieces instead."""

    wire = "calculator"

    def __init__(self, *, calls: int = 1, deltas: int = 0, read: int = READ) -> None:
        self.gate: Gate | None = None
        self._calls = calls
        self._deltas = deltas
        self._read = read

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Answer the last message."""
        if self._deltas:
            return _answer(await self._stream(emit))
        if request.messages[-1].role != "user":
            emit("text", ANSWER, 0)
            return _answer(ANSWER)
        if self.gate is not None:
            await self.gate.arrive()
        if not self._calls:
            emit("text", ANSWER, 0)
            return _answer(ANSWER)
        return self._ask(emit)

    def _ask(self, emit: Emit) -> Reply:
        calls = []
        for index in range(self._calls):
            emit("arguments", ARGUMENTS, index)
            calls.append(
                ToolCall(id="", name="add", arguments=ARGUMENTS, provider_id=f"call_{next(_numbers)}")
            )
        return Reply(message=Message(id="", role="assistant", content=tuple(calls)), stop="tool_calls")

    async def _stream(self, emit: Emit) -> str:
        pieces = []
        for sent in range(1, self._deltas + 1):
            emit("text", DELTA, 0)
            pieces.append(DELTA)
            if sent % self._read == 0:
                await asyncio.sleep(0)
        return "".join(pieces)

    def encode(self, request: Request) -> bytes:
        """There is no wire."""
        return b""

    async def close(self) -> None:
        """There is nothing to let go of."""


def _answer(text: str) -> Reply:
    return Reply(message=Message(id="", role="assistant", content=(Text(text=text),)), stop="end_turn")


async def _add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


def adding(effect: Literal["once", "pure"] = "once") -> Tool:
    """The tool. Undeclared effects are `once`, so that is what is measured unless it says otherwise."""
    return tool(name="add", effect=effect)(_add)


def calculator(model: Calculator, *, effect: Literal["once", "pure"] = "once") -> Agent:
    """The agent."""
    return Agent(INSTRUCTIONS, model=model, tools=[adding(effect)])


async def one_turn(runtime: Runtime, agent: Agent) -> None:
    """A fresh session, one question, the answer."""
    session = await runtime.session(agent)
    result = await session.run(QUESTION)
    if result.text != ANSWER:
        raise AssertionError(f"the turn ended {result.status} on {result.text!r}: {result.error}")
