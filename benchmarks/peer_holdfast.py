"""Our side of the run beside other libraries; `side_by_side.py` starts it.

The harness is theirs (`workload`, found on the path of that run), so is the tool; the model is ours, by their rules.

mem          sessions in memory
sqlite       one file, durable; the tool is `once`, as is any that declares nothing: cut off, it is in doubt and not
             run again
sqlite_pure  the same with a tool declared `pure`: its claim shares the append of its outcome, and cut off it runs again
"""

import asyncio

import workload as w  # type: ignore[import-not-found]

from holdfast import Agent, Message, Reply, Runtime, Text, TextDelta, ToolCall, tool

READ = 64
"""Deltas that one read of a socket brings; between two reads, others may run."""


def _reply(*parts):
    stop = "tool_calls" if isinstance(parts[0], ToolCall) else "end_turn"
    return Reply(message=Message(id="", role="assistant", content=parts), stop=stop)


class Model:
    """Asks for the tool, then answers."""

    wire = "benchmark"

    async def reply(self, request, emit):
        second = request.messages[-1].role == "tool"
        await w.model_enter(second)
        if second:
            emit("text", w.FINAL_TEXT, 0)
            return _reply(Text(text=w.FINAL_TEXT))
        calls = []
        for index in range(w.n_calls()):
            emit("arguments", w.TOOL_ARGS_JSON, index)
            calls.append(
                ToolCall(id="", name=w.TOOL_NAME, arguments=w.TOOL_ARGS_JSON, provider_id=w.call_id())
            )
        return _reply(*calls)

    def encode(self, request):
        return b""

    async def close(self):
        return None


class Talker(Model):
    """Streams its answer."""

    async def reply(self, request, emit):
        pieces = []
        for sent in range(1, w.n_deltas() + 1):
            emit("text", w.DELTA_TEXT, 0)
            pieces.append(w.DELTA_TEXT)
            if sent % READ == 0:
                await asyncio.sleep(0)
        return _reply(Text(text="".join(pieces)))


class Holdfast(w.Peer):  # type: ignore[misc]
    """One runtime for the process, a fresh session for each turn."""

    name = "holdfast"
    import_stmt = "from holdfast import Agent, Runtime, tool"
    dists = ("holdfast", "msgspec", "apsw")
    variants = ("mem", "sqlite", "sqlite_pure")
    headline = ("mem", "sqlite")
    durable = ("sqlite", "sqlite_pure")
    crash = ("sqlite", "sqlite_pure")
    skip = {("w3", "sqlite"): "same path as mem", ("w3", "sqlite_pure"): "same path as mem"}  # noqa: RUF012

    async def open(self):
        add = tool(name=w.TOOL_NAME, effect="pure" if self.variant == "sqlite_pure" else "once")(w.add)
        self.agent = Agent(w.SYSTEM_PROMPT, model=Model(), tools=[add])
        self.talker = Agent(w.SYSTEM_PROMPT, name="talker", model=Talker(), tools=[add])
        self.runtime = Runtime(None if self.variant == "mem" else self.workdir / "holdfast.db")
        await self.runtime.__aenter__()

    async def close(self):
        await self.runtime.close()

    def new_session(self):
        return self.runtime.session(self.agent)

    async def turn(self, session, text):
        return (await session.run(text)).text

    async def stream(self):
        session = await self.runtime.session(self.talker)
        seen = characters = 0
        async for item in await session.send(w.USER_TEXT):
            if isinstance(item, TextDelta):
                seen += 1
                characters += len(item.text)
        return seen, characters

    async def stream_model(self):
        """The model with nobody behind it; an iterator of one item, which takes as long as the whole stream."""
        yield await Talker().reply(None, lambda kind, piece, index: None)

    async def crash_start(self, sid):
        session = await self.runtime.session(self.agent)
        (self.workdir / sid).write_text(session.id)  # ids are ours to give: note which it became
        return (await session.run(w.USER_TEXT, key=sid)).text

    async def crash_resume(self, sid):
        """The same input under the same key is the same turn: it is not accepted again, and awaited to its end."""
        session = await self.runtime.open((self.workdir / sid).read_text(), self.agent)
        return (await session.run(w.USER_TEXT, key=sid)).text


if __name__ == "__main__":
    w.main(Holdfast)
