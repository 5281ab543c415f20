"""What tests of workers share: workers in processes of their own, something for them to do, and what they noted."""

import asyncio
import subprocess
from pathlib import Path

from holdfast import Agent, Runtime
from tests.cli.crew import agents
from tests.cli.kit import Cli
from tests.conftest import ROOT

CREW = ("--agents", "tests.cli.crew:agents")


class Crew:
    """Workers on one database."""

    def __init__(self, cli: Cli, gate: Path) -> None:
        self._cli = cli
        self._gate = gate
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *options: str, toil: str = "0.3", gated: bool = False) -> subprocess.Popen[str]:
        """Start one more. `gated`: its tools end when `let_go` was called."""
        env = self._cli.env | {"TOIL": toil} | ({"GATE": str(self._gate)} if gated else {})
        process = Cli(self._cli.db, env).start("worker", *CREW, *options, cwd=ROOT)
        self.processes.append(process)
        return process

    def let_go(self) -> None:
        """Let the tools of gated workers end."""
        self._gate.touch()


async def owing(db: Path, number: int = 1, agent: Agent = agents[0], words: str = "Begin.") -> list[str]:
    """So many sessions with an input that nobody is at work on."""
    async with Runtime(db, agents=agents) as runtime:
        made = [await runtime.session(agent) for _ in range(number)]
        for session in made:
            await session.update(title="owing")
    async with Runtime(db, agents=agents) as runtime:
        for session in made:
            await (await runtime.open(session.id, drive=False)).send(words)
    return [session.id for session in made]


async def noted(ledger: Path, word: str, number: int = 1) -> list[str]:
    """The sessions in the ledger's lines with this word, once there are so many."""
    async with asyncio.timeout(60):
        while True:
            found = [line.split()[1] for line in ledger.read_text().splitlines() if line.startswith(word)]
            if len(found) >= number:
                return found
            await asyncio.sleep(0.02)
