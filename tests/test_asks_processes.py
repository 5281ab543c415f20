"""Asks and answers between real processes, killed in between: what was approved is done once."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import Runtime
from holdfast.testing import problems_in
from tests.deciding_process import agent

KILLED = -9


class Desk:
    """A database, a ledger of what was done, and processes on both."""

    def __init__(self, folder: Path) -> None:
        self.database, self.ledger = folder / "log.db", folder / "ledger.txt"

    def start(self, *what: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "tests.deciding_process",
            str(self.database),
            str(self.ledger),
            *what,
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *what: str) -> tuple[int, str]:
        process = self.start(*what)
        out, err = process.communicate(timeout=60)
        assert process.returncode in (0, KILLED), err
        return process.returncode, out.strip()

    def done(self) -> list[str]:
        return self.ledger.read_text().split("\n")[:-1] if self.ledger.exists() else []

    async def check(self) -> None:
        """Whatever happened, the log is sound, and nothing was paid twice."""
        async with Runtime(self.database, agents=[agent(self.ledger)]) as runtime:
            (head,) = await runtime.sessions()
            session = await runtime.open(head.session_id, read_only=True)
            assert problems_in(await session.events(limit=10_000)) == []
        paid = sorted(line for line in self.done() if line.startswith("pay"))
        assert paid == ["pay 1", "pay 2"]


async def asks_on(runtime: Runtime, many: int) -> list[str]:
    """The ids of so many asks of the one session, as soon as they are there."""
    for _ in range(600):
        for head in await runtime.sessions():
            asks = (await runtime.open(head.session_id, read_only=True)).asks
            if len(asks) >= many:
                return [ask.ask_id for ask in asks]
        await asyncio.sleep(0.05)
    raise AssertionError(f"there are no {many} asks")


async def test_an_answer_from_another_process_is_found_by_the_next_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.run("work") == (0, "waiting")
    assert desk.done() == ["look"]
    assert desk.run("answer") == (0, "")
    assert desk.run("work") == (0, "completed Done.")
    await desk.check()


@pytest.mark.parametrize("die", ["ask.opened", "tool.started"])
async def test_a_worker_that_dies_while_it_asks_loses_no_ask(tmp_path: Path, die: str) -> None:
    desk = Desk(tmp_path)
    assert desk.run("work", die)[0] == KILLED
    assert desk.run("work") == (0, "waiting")
    assert desk.run("answer", "first")[0] == KILLED
    assert desk.run("work") == (0, "waiting")
    assert desk.run("answer") == (0, "")
    assert desk.run("work") == (0, "completed Done.")
    await desk.check()


async def test_a_worker_that_dies_between_answer_and_run_leaves_the_answer(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.run("work") == (0, "waiting")
    assert desk.run("answer") == (0, "")
    code, _ = desk.run("work", "ask.answered")
    assert code == KILLED
    code, out = desk.run("work")
    assert (code, out in ("completed Done.", "")) == (0, True)
    async with Runtime(desk.database, agents=[agent(desk.ledger)]) as runtime:
        (head,) = await runtime.sessions()
        state = (await runtime.open(head.session_id, read_only=True)).state
        assert state.outcome is not None
        doubts = [it.name for it in state.outcome.in_doubt]
    paid = sorted(line for line in desk.done() if line.startswith("pay"))
    assert len(paid) == len(set(paid))
    assert len(paid) + len(doubts) >= 2


async def test_letters_to_a_worker_that_dies_are_read_by_the_next_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    working = desk.start("work", "ask.answered")
    async with Runtime(desk.database, agents=[agent(desk.ledger)]) as runtime:
        for ask_id in await asks_on(runtime, 2):
            (head,) = await runtime.sessions()
            session = await runtime.open(head.session_id, drive=False)
            await session.approve(ask_id, by="ann", key=ask_id)
    working.communicate(timeout=60)
    code, out = desk.run("work")
    assert (code, out in ("completed Done.", "")) == (0, True)
    paid = sorted(line for line in desk.done() if line.startswith("pay"))
    assert len(paid) == len(set(paid))
