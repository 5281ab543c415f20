"""A model server in a process of its own, so that its work is nobody else's: it says the same answer to everybody.

python -m benchmarks.model_server DELTAS READ PAUSE GATE

The answer is made before anybody asks. Every event is an HTTP chunk, as providers send them, and `READ` of them are one
write, `PAUSE` seconds apart. With a `GATE` the rest of an answer is sent when so many answers have begun. Where the
servers are is the first line of the output, as JSON; they are gone when the input ends.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import msgspec

from benchmarks.calculator import DELTA, Gate
from benchmarks.cold import ROOT, environment
from benchmarks.crowd import MODEL
from holdfast.drivers.sim import Step
from holdfast.testing.providers_anthropic import AnthropicVoice
from holdfast.testing.providers_gemini import GeminiVoice
from holdfast.testing.providers_openai import ResponsesVoice
from holdfast.testing.providers_openai_chat import ChatVoice
from holdfast.testing.providers_said import Asked, Told, Voice
from holdfast.testing.providers_wire import receive

VOICES: dict[str, type[Voice]] = {
    "anthropic": AnthropicVoice,
    "gemini": GeminiVoice,
    "openai": ResponsesVoice,
    "openai-chat": ChatVoice,
}
"""The protocols, by the vendor in a model's name."""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@contextmanager
def model_servers(
    deltas: int, *, read: int = 1, pause: float = 0.001, gate: int = 0
) -> Iterator[dict[str, str]]:
    """The addresses (`http://host:port`) of one server for each protocol, for as long as the block lasts."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.model_server",
        *(str(deltas), str(read), str(pause), str(gate)),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield msgspec.json.decode(server.stdout.readline(), type=dict[str, str])
        finally:
            server.stdin.close()
            server.wait(10)


def _writes(voice: type[Voice], deltas: int, read: int) -> list[bytes]:
    """What is written, one after the other: the head and the events before the first delta, the deltas, the end."""
    step = Step(text=DELTA * deltas, pieces=(DELTA,) * deltas)
    told = Told(step=step, asked=Asked(model=MODEL, stream=True), number=1)
    speaking = voice(told)
    first = _chunks(speaking.begin())
    middle = [_chunks(speaking.add(piece)) for piece in told.pieces()]
    last = _chunks(speaking.end())
    groups = [b"".join(middle[at : at + read]) for at in range(0, deltas, read)]
    return [HEAD + first, *groups, last + b"0\r\n\r\n"]


def _chunks(events: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)


async def _serve(
    writes: list[bytes], pause: float, gate: Gate | None, reader: StreamReader, writer: StreamWriter
) -> None:
    with suppress(IncompleteReadError, ConnectionError, asyncio.CancelledError):
        while True:
            await receive(reader)
            for number, data in enumerate(writes):
                writer.write(data)
                await writer.drain()
                if number == 1 and gate is not None:
                    await gate.arrive()
                await asyncio.sleep(pause)
    writer.close()


async def _main(deltas: int, read: int, pause: float, size: int) -> None:
    gate = Gate(size) if size else None
    found = {}
    for name, voice in VOICES.items():
        serve = partial(_serve, _writes(voice, deltas, read), pause, gate)
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4_096)
        host, port = server.sockets[0].getsockname()[:2]
        found[name] = f"http://{host}:{port}"
    print(msgspec.json.encode(found).decode(), flush=True)
    if gate is not None:
        await gate.full.wait()
        gate.open()
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    _deltas, _read, _pause, _gate = sys.argv[1:]
    asyncio.run(_main(int(_deltas), int(_read), float(_pause), int(_gate)))
