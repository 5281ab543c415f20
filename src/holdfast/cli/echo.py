"""`sim/echo`: a SIMULATED model for trying the command line without a key. It repeats what it is told.

A line `call NAME {"json": "arguments"}` in the prompt makes it ask for that tool, so that tools can be tried by hand:

    holdfast run --model sim/echo --dir . 'call list_files {"path": "/"}'
"""

from __future__ import annotations

import asyncio
import re

import msgspec

from holdfast import DriverError, Message, Reply, Request, Text, ToolCall, ToolResult
from holdfast.driver import Emit

LABEL = "[SIMULATED MODEL]"
PACE = 0.01
"""Seconds between words."""
REPEATED = 200
"""Characters of a result that it repeats."""

_CALL = re.compile(r"^call +([\w.-]+) *(.*)$", re.MULTILINE)


class Echo:
    """A driver whose one model, `echo`, understands nothing."""

    wire = "sim"

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Ask for the tools that the prompt names, or say what was said and what the tools answered."""
        if request.model != "echo":
            raise DriverError(
                "invalid_request", f"there is no sim/{request.model}; the simulated model is sim/echo"
            )
        last = request.messages[-1]
        calls = _calls(last) if last.role == "user" else ()
        text = "" if calls else f"{LABEL} {_answer(list(request.messages))}"
        for word in re.findall(r"\S+\s*", text):
            emit("text", word, 0)
            await asyncio.sleep(PACE)
        content = calls or (Text(text=text),)
        message = Message(id="", role="assistant", content=content)
        return Reply(message=message, stop="tool_calls" if calls else "end_turn", model="sim/echo")

    def encode(self, request: Request) -> bytes:
        """The request as plain JSON: a simulated model has no wire format."""
        tools = [tool.name for tool in request.tools]
        return msgspec.json.encode(
            {
                "simulated": True,
                "model": request.model,
                "instructions": request.instructions,
                "tools": tools,
                "messages": list(request.messages),
            }
        )

    async def close(self) -> None:
        """Nothing to let go of."""


def _calls(message: Message) -> tuple[ToolCall, ...]:
    wanted = _CALL.findall(message.text)
    return tuple(ToolCall(id="", name=name, arguments=arguments or "{}") for name, arguments in wanted)


def _answer(messages: list[Message]) -> str:
    results: list[str] = []
    while messages[-1].role == "tool":
        parts = messages.pop().content
        results += [f"{it.name} ({it.status}): {_cut(it.text)}" for it in parts if isinstance(it, ToolResult)]
    if results:
        return "The tools answered.\n" + "\n".join(reversed(results))
    return f"You said: {messages[-1].text}"


def _cut(text: str) -> str:
    return text if len(text) <= REPEATED else text[:REPEATED] + " …"
