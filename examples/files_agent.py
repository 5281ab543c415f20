"""An agent that reads a real directory and keeps notes in it. Set OPENAI_API_KEY to run it with a real model.

The directory is lent to the session as a service; without that line the same tools work on files in the session's log.

Prints:

    simulated model; set OPENAI_API_KEY for a real one
    list_files({"recursive":true}) -> ok
    grep_files({"pattern":"TODO","glob":"*.py"}) -> ok
    read_file({"path":"../../etc/passwd"}) -> error
    write_file({"path":"NOTES.md","content":"# To do\\n\\n- shop.py:2: count the pears\\n"}) -> ok
    One thing is left to do: shop.py, line 2. I wrote it into NOTES.md.
    # To do

    - shop.py:2: count the pears
"""

import asyncio
import os
import tempfile
from pathlib import Path

from holdfast import FILES, Agent, DiskFiles, Driver, Event, Runtime
from holdfast.drivers.sim import Sim, call, say
from holdfast.events import ToolCompleted

NOTES = "# To do\n\n- shop.py:2: count the pears\n"


def choose_model() -> str | Driver:
    """The real model where there is a key for it, else a simulation of this one conversation. The tools are real."""
    if os.environ.get("OPENAI_API_KEY"):
        return "openai-chat/gpt-5-mini"
    print("simulated model; set OPENAI_API_KEY for a real one")
    return Sim.storyboard(
        call("list_files", recursive=True),
        call("grep_files", pattern="TODO", glob="*.py"),
        call("read_file", path="../../etc/passwd"),  # refused: a path stays in the workspace
        call("write_file", path="NOTES.md", content=NOTES),
        say("One thing is left to do: shop.py, line 2. I wrote it into NOTES.md."),
    )


async def work_in(directory: Path) -> None:
    """One turn over this directory, with each call shown as its outcome is recorded."""
    agent = Agent(
        "You look after a project. Write what is left to do into NOTES.md.",
        model=choose_model(),
        capabilities=["files"],
    )
    async with Runtime() as runtime:
        session = await runtime.session(agent, services={FILES: DiskFiles(directory, writable=True)})
        turn = await session.send("What is left to do in this project?")
        async for item in turn:
            if isinstance(item, Event) and isinstance(item.data, ToolCompleted):
                result = item.data.result
                wanted = next(
                    it for m in await session.messages() for it in m.calls if it.id == result.call_id
                )
                print(f"{wanted.name}({wanted.arguments}) -> {result.status}")
        print((await turn).text)


async def main() -> None:
    """Make a small project, and let the agent work in it."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (directory / "shop.py").write_text("PEARS = 3\n# TODO count the pears\n")
        await work_in(directory)
        if (directory / "NOTES.md").exists():
            print((directory / "NOTES.md").read_text(), end="")


if __name__ == "__main__":
    asyncio.run(main())
