"""What the drivers of servers cost: a delta from the socket to the consumer, a request with a long history, the import,
and a thousand streams at once.

The servers are on this machine in a process of their own, which is not counted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx2
import msgspec

from benchmarks import official
from benchmarks.calculator import ARGUMENTS, INSTRUCTIONS, QUESTION, READ
from benchmarks.cold import LIMIT, ROOT, environment, python
from benchmarks.crowd import MODEL, Streamed, stream
from benchmarks.figures import Effort, Figure
from benchmarks.model_server import model_servers
from benchmarks.timing import MICRO, MILLI, Took, figure_of, timed
from holdfast import (
    Agent,
    Message,
    Registry,
    Request,
    Runtime,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from holdfast.driver import Transcript
from holdfast.drivers.anthropic import Anthropic
from holdfast.drivers.gemini import Gemini
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.drivers.remote import RemoteDriver

KIB = 1024
MB = 1_000_000
HISTORY = 200
"""Messages of the request that is encoded, the new one included."""
NEW = 50
"""Requests, each with one message more, that are timed together."""
AT_A_TIME = 10
"""Part of the deltas are sent one by one, which takes real time: a tenth of them."""
STREAMED = 64
"""Deltas of each of many streams."""
IMPORT = (
    "import time; wall, cpu = time.perf_counter(), time.process_time(); import holdfast.drivers.{}; "
    "print(time.perf_counter() - wall, time.process_time() - cpu)"
)

Make = Callable[[str], RemoteDriver[Any]]
DRIVERS: dict[str, Make] = {
    "anthropic": lambda origin: Anthropic(base_url=origin, api_key="any"),
    "gemini": lambda origin: Gemini(base_url=f"{origin}/v1beta", api_key="any"),
    "openai": lambda origin: OpenAI(base_url=f"{origin}/v1", api_key="any"),
    "openai-chat": lambda origin: OpenAIChat(base_url=f"{origin}/v1", api_key="any"),
}
"""By the vendor in a model's name, on a server at this origin."""
ENVIRONMENT = {
    "anthropic": ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", ""),
    "gemini": ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY", "/v1beta"),
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_KEY", "/v1"),
    "openai-chat": ("OPENAI_BASE_URL", "OPENAI_API_KEY", "/v1"),
}
"""Where each driver finds its address and its key, and what follows the origin there."""


async def deltas(effort: Effort) -> list[Figure]:
    """One delta from the socket to a consumer who reads the turn as it happens; then the vendors' own clients, which
    are given the same bytes by the same servers."""
    number = effort.deltas[0]
    few = max(number // AT_A_TIME, 1)
    figures = []
    with model_servers(number, read=READ) as together, model_servers(few) as one_by_one:
        for name in DRIVERS:
            figures.append(await _ours(name, name, number, together[name], effort.repeats))
            figures.append(await _ours(name, f"{name}, one a read", few, one_by_one[name], effort.repeats))
        figures.append(await _bare("httpx2 alone", number, together["anthropic"], effort.repeats))
        figures.append(await _bare("httpx2 alone, one a read", few, one_by_one["anthropic"], effort.repeats))
        for name in DRIVERS:
            figures.append(await theirs(name, number, together[name], effort.repeats))
    return figures


async def _ours(protocol: str, name: str, number: int, origin: str, repeats: int) -> Figure:
    agent = Agent(INSTRUCTIONS, model=f"{protocol}/{MODEL}")
    registry = Registry(drivers={protocol: DRIVERS[protocol](origin)})
    async with Runtime(registry=registry) as runtime:
        once = partial(stream, runtime, agent, number)
        await once()
        took = [await timed(once) for _ in range(repeats)]
    return _a_delta(name, number, took)


async def _bare(name: str, number: int, origin: str, repeats: int) -> Figure:
    """The same bytes through the HTTP client alone, which looks at none of them."""
    async with httpx2.AsyncClient(timeout=None) as client:

        async def once() -> None:
            async with client.stream("POST", f"{origin}/v1/messages", content=b"{}") as response:
                async for _ in response.aiter_raw():
                    pass

        await once()
        return _a_delta(name, number, [await timed(once) for _ in range(repeats)])


async def theirs(protocol: str, number: int, origin: str, repeats: int) -> Figure:
    """The same through the vendor's own client; skipped where that is not installed."""
    name = f"{protocol}, official client"
    if reason := official.missing(protocol):
        return Figure(
            workload="wire", name=f"a delta, {name}", unit="µs", clock="cpu", values=(), skipped=reason
        )
    async with official.asking(protocol, origin) as ask:
        seen = await ask()
        if seen != number:
            raise AssertionError(f"the official client saw {seen} of {number} deltas")
        return _a_delta(name, number, [await timed(ask) for _ in range(repeats)])


def _a_delta(name: str, number: int, took: list[Took]) -> Figure:
    return figure_of("wire", f"a delta, {name}", "µs", MICRO / number, "cpu", took)


async def encoded(effort: Effort) -> list[Figure]:
    """A request with a long history of which the last message only is new, as each iteration of a turn sends it."""
    figures = []
    for name, make in DRIVERS.items():
        driver = make("http://127.0.0.1")
        took = []
        for _ in range(effort.repeats + 1):
            transcript = Transcript(_message(number) for number in range(HISTORY - 1))
            request = Request(model=MODEL, messages=transcript, instructions=INSTRUCTIONS, tools=(_ADD,))
            driver.encode(request)
            took.append(await timed(partial(_grow, driver, request)))
        figures.append(figure_of("wire", f"encode, {name}", "µs", MICRO / NEW, "cpu", took[1:]))
    return figures


async def _grow(driver: RemoteDriver[Any], request: Request) -> None:
    for number in range(HISTORY - 1, HISTORY - 1 + NEW):
        request.messages.extend([_message(number)])
        driver.encode(request)


_ADD = ToolSpec(
    name="add",
    description="Add two integers.",
    parameters={"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
)


def _message(number: int) -> Message:
    """The messages of a session in which each question takes one call."""
    call = f"call_{number // 4}"
    match number % 4:
        case 0:
            return Message(id=f"message_{number}", role="user", content=(Text(text=QUESTION),))
        case 1:
            asked = ToolCall(id=call, name="add", arguments=ARGUMENTS, provider_id=call)
            return Message(id=f"message_{number}", role="assistant", content=(asked,))
        case 2:
            result = ToolResult(call_id=call, name="add", content=(Text(text="5"),))
            return Message(id=f"message_{number}", role="tool", content=(result,))
        case _:
            return Message(id=f"message_{number}", role="assistant", content=(Text(text="It is 5. " * 20),))


def imported(effort: Effort) -> list[Figure]:
    """The import of one driver in a fresh process, bytecode compiled; without the start of the interpreter."""
    figures = []
    for name in DRIVERS:
        code = IMPORT.format(name.replace("-", "_"))
        python(code)  # compiles what is not compiled yet
        took = [Took(*map(float, python(code)[1].split())) for _ in range(effort.repeats)]
        figures.append(figure_of("wire", f"import, {name}", "ms", MILLI, "cpu", took))
    return figures


def crowd(protocol: str) -> Callable[[Effort], list[Figure]]:
    """`sessions` turns that stream at once, in a process of their own: all have begun to stream before any goes on."""
    return lambda effort: _crowd(protocol, effort.sessions)


def _crowd(protocol: str, number: int) -> list[Figure]:
    with model_servers(STREAMED, read=STREAMED // 2, pause=0.01, gate=number) as servers:
        place, key, base = ENVIRONMENT[protocol]
        told = {**environment(), place: servers[protocol] + base, key: "any"}
        command = [sys.executable, "-m", "benchmarks.crowd", protocol, str(number), str(STREAMED)]
        done = subprocess.run(command, env=told, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=LIMIT)
    took = msgspec.json.decode(done.stdout, type=Streamed)
    name = f"{number:,} streams, {protocol}"
    each = max(took.peak - took.before, 1) / number / KIB
    return [
        Figure(workload="wire", name=f"{name}, resident", unit="MB", values=(round(took.peak / MB, 1),)),
        Figure(workload="wire", name=f"{name}, each", unit="KiB", values=(round(each, 1),)),
        figure_of("wire", name, "s", 1, "wall", [Took(took.wall, took.cpu)]),
    ]
