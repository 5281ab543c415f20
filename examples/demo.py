"""Holdfast in one minute: an agent is killed in the middle of a tool call, and goes on as if it had only blinked.

    python examples/demo.py                           a SIMULATED model; the tools, the kill and the recovery are real
    python examples/demo.py openai-chat/gpt-5-mini    a real model, with its key in OPENAI_API_KEY

The agent reads this project's own directory, counts its lines and notes the result in a ledger. What is noted cannot be
taken back, and that is where the process dies: the line is written, and nobody has recorded that it was.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from holdfast import (
    FILES,
    Agent,
    CapabilityRef,
    Context,
    DiskFiles,
    Event,
    HoldfastError,
    Key,
    Request,
    Runtime,
    ToolResult,
    TurnResult,
    tool,
)
from holdfast.drivers.sim import Sim, Step, calls, say
from holdfast.events import OutputMessageCompleted, ToolCompleted, ToolStarted

PROJECT = Path(__file__).resolve().parent.parent
TASK = "Which package below /src/holdfast has the most lines? Note it in the ledger, once."


class Ledger:
    """A file of lines. A deadly one kills the process right after a line was written."""

    def __init__(self, path: Path, *, deadly: bool) -> None:
        self.path, self.deadly = path, deadly

    def add(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []


LEDGER: Key[Ledger] = Key("ledger")


# The tools. An effect class says what may be done about a call that was cut off.


@tool(effect="pure", needs=(FILES,))
async def lines_per_package(ctx: Context, path: str) -> dict[str, int]:
    """Count the lines of Python in each package below a directory, the largest first."""
    files, counts = ctx.scope[FILES], Counter[str]()
    for info in await files.list(path, recursive=True):
        if info.path.endswith(".py"):
            folder = info.path.rpartition("/")[0]
            counts[folder.removeprefix("/src/").replace("/", ".")] += (await files.read(info.path)).count(
                b"\n"
            )
    return dict(counts.most_common())


@tool(effect="once", needs=(LEDGER,))
async def note_in_ledger(ctx: Context, line: str) -> str:
    """Append a line to the ledger. This cannot be undone."""
    ctx.scope[LEDGER].add(line)
    return "noted"


@tool(effect="pure", needs=(LEDGER,))
async def read_ledger(ctx: Context) -> list[str]:
    """Read the lines of the ledger."""
    return ctx.scope[LEDGER].lines()


# The model: a script in the place of one. It decides by the transcript alone, so a restart changes nothing.


def simulated(request: Request) -> Step:
    """What a model might do next."""
    replies = sum(message.role == "assistant" for message in request.messages)
    match replies, request.messages[-1].content[-1]:
        case 0, _:
            listing = ("list_files", {"path": "/src/holdfast"})
            search = ("grep_files", {"pattern": "^name", "glob": "*.toml"})
            return calls(listing, search, text="First I look around.")
        case 1, _:
            return calls(("lines_per_package", {"path": "/src/holdfast"}), text="Now I count.")
        case 2, ToolResult(text=counts):
            package, lines = next(iter(json.loads(counts).items()))
            line = f"the largest package is {package} with {lines} lines"
            return calls(("note_in_ledger", {"line": line}), text="I note the largest.")
        case 3, ToolResult(status="in_doubt"):
            return calls(
                ("read_ledger", {}), text="That call is in doubt, I am told. I look before I repeat it."
            )
        case _, ToolResult(name="read_ledger", text=lines) if "largest package" in lines:
            return say("The line is there, so I do not write it again. Done.")
    return say("Done.")


def make_agent(model: str | None) -> Agent:
    """The agent, with the real model of this name or with the simulation."""
    return Agent(
        "You study the project in your workspace. A call in doubt may have had its effect: check, then decide.",
        name="demo",
        model=model or Sim.rule(simulated),
        capabilities=[CapabilityRef(name="files", config={"read_only": True})],
        tools=[lines_per_package, note_in_ledger, read_ledger],
    )


# The run: the same few lines, whether the session begins here or was cut off elsewhere.


async def work(place: Path, model: str | None, *, deadly: bool) -> TurnResult:
    """Begin the session or go on with it, and tell what is recorded until its turn rests."""
    ledger = Ledger(place / "ledger.txt", deadly=deadly)
    async with Runtime(place / "demo.db", services={FILES: DiskFiles(PROJECT), LEDGER: ledger}) as runtime:
        if known := await runtime.sessions():
            session = await runtime.open(known[0].session_id, make_agent(model))
        else:
            session = await runtime.session(make_agent(model), title="The largest package")
        before = session.state.sequence if known else 0
        turn = session.turn or await session.send(TASK)
        async for item in turn:
            if isinstance(item, Event) and item.sequence > before:
                print(told(item), end="", flush=True)
        return await turn


def told(event: Event) -> str:
    """A recorded event as a line, when it is worth one."""
    match event.data:
        case OutputMessageCompleted(message=message):
            names = ", ".join(wanted.name for wanted in message.calls)
            return f"   {event.sequence:>3}  model    {message.text}{' -> ' if names else ''}{names}\n"
        case ToolStarted(name=name):
            return f"   {event.sequence:>3}  started  {name}\n"
        case ToolCompleted(result=result):
            return f"   {event.sequence:>3}  ended    {result.name}: {result.status}\n"
    return ""


def holdfast(*arguments: str, place: Path) -> None:
    """Run the command line on the demo's database."""
    sys.stdout.flush()
    command = [sys.executable, "-m", "holdfast.cli", *arguments, "--db", str(place / "demo.db")]
    subprocess.run(command, check=True)


def main(model: str | None) -> None:
    """Start the agent in a process of its own, see it die, and go on here."""
    if model is None:
        print("The model of this demo is SIMULATED: a script. The tools, the kill and the recovery are real.")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        print(f"\n1. An agent works on {PROJECT.name}/, in a process of its own.", flush=True)
        child = subprocess.run([sys.executable, __file__, "--child", folder, model or ""], check=False)
        if child.returncode != -signal.SIGKILL:
            sys.exit("It ended without writing to the ledger, so nothing was cut off.")
        print(
            "\n2. It was killed (SIGKILL) inside note_in_ledger. Its log ends with a claim that has no outcome:"
        )
        holdfast("events", "last", "-n", "1", place=place)
        print(
            "\n3. This process opens the same file and goes on. A call that may take effect only once is not re-run:"
        )
        asyncio.run(work(place, model, deadly=False))
        print("\n4. The whole story, read back from that one file by `holdfast show`:\n")
        holdfast("show", "last", place=place)
        lines = Ledger(place / "ledger.txt", deadly=False).lines()
    print(f"\n5. The ledger has {len(lines)} line, written by the process that died:\n   {lines[0]}")
    print("\nWith a real model:  OPENAI_API_KEY=... .venv/bin/python examples/demo.py openai-chat/gpt-5-mini")


def child(place: Path, model: str | None) -> None:
    """The process that dies, unless its model leaves the ledger alone."""
    try:
        result = asyncio.run(work(place, model, deadly=True))
    except HoldfastError as error:
        sys.exit(f"error: {error}")
    print(f"   {result.status}: {result.error.message if result.error else result.text}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3] or None)
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else None)
